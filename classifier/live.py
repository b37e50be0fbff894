"""Tag a live stream: samples in as they arrive, tags out as each frame completes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.bundle import BATCH_FRAMES, pad
from classifier.tagger import Tagger
from classifier.tags.choice import Choice, ChoiceOptions
from classifier.tags.types import LiveTags, Scores
from vggish.audio.mono import Limiter, MonoMix, in_pieces
from vggish.audio.resample import band_warnings, make_resampler
from vggish.audio.stream import MAX_BLOCK_SECONDS
from vggish.errors import OptionError
from vggish.frames.clip import Frames
from vggish.mel_features import FloatArray, PatchStream
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LiveTagger:
    """Tags one live stream, of 1 Hz to 1 MHz, from one thread at a time.

    The frames are bit for bit those that the tagger's extractor computes from the whole stream,
    however it is cut into blocks. Memory holds at most a second of audio and one clip of frames.
    The tags of a frame are returned with the block that completes it; at rates other than 16 kHz
    from 4 kHz on the resampler delays less than 0.1 s of samples, and several channels are mixed in
    parts of a second. Floats beyond 1 are scaled by a
    limiter. The tagger may be shared with other streams; the options are top_k, threshold, labels
    and exclude_labels, see `Tagger.tag`.
    """

    def __init__(
        self, tagger: Tagger, sample_rate_hz: int, **options: Unpack[ChoiceOptions]
    ) -> None:
        self._bundle = tagger.bundle
        self._extractor = tagger.extractor
        self._choice = Choice(**options)
        self._choice.classes(self._bundle.labels)
        embed_options = self._extractor.options
        self._rate_hz = sample_rate_hz
        self._resampler = make_resampler(sample_rate_hz, embed_options.resampler)
        self._patches = PatchStream(embed_options.hop_seconds, embed_options.tail)
        self._mix = MonoMix(sample_rate_hz, limiter=Limiter(sample_rate_hz))
        self._n_resampled, self._n_samples, self._is_finished = 0, 0, False
        self._earlier: Frames = np.zeros((0, EMBEDDING_SIZE), np.uint8)
        self.n_frames = 0

    @property
    def duration_seconds(self) -> float:
        """Duration of the samples so far."""
        return self._n_samples / self._rate_hz

    @property
    def warnings(self) -> list[str]:
        """Sentences about defects of the samples so far, and about a low sample rate."""
        return [*band_warnings(self._rate_hz), *self._mix.warnings]

    def feed(self, samples: npt.NDArray[Any]) -> list[LiveTags]:
        """Process samples [n] or [n, channels], float in [-1, 1] or int16; n may be 0.

        Returns the tags of each frame that they complete, in order. Raises an `OptionError` for
        another shape or dtype, or after `finish`.
        """
        if self._is_finished:
            raise OptionError("this stream is finished; use another LiveTagger for the next one")
        block = _checked(samples)
        if len(block) == 0:
            return []
        self._n_samples += len(block)
        return self._tags_of(self._mix.feed(block))

    def finish(self) -> list[LiveTags]:
        """End the stream and return the tags of the remaining frames; none without samples."""
        is_over, self._is_finished = self._is_finished, True
        if is_over or self._n_samples == 0:
            return []
        found = self._tags_of(self._mix.flush())
        rest = self._patches_of(self._resampler.flush())
        if self._n_resampled == 0:  # even less than a sample at 16 kHz gives a frame
            rest = self._patches_of(np.zeros(1, np.float32))
        return found + self._tags(np.concatenate([rest, self._patches.flush()]))

    def _tags_of(self, waveform: npt.NDArray[np.float32]) -> list[LiveTags]:
        """Tags of the frames that a waveform at the stream's own rate completes."""
        found: list[LiveTags] = []
        # At low rates, samples become many more at 16 kHz.
        for piece in in_pieces(waveform, MAX_BLOCK_SECONDS * self._rate_hz):
            found += self._tags(self._patches_of(self._resampler.feed(piece)))
        return found

    def _patches_of(self, waveform: npt.NDArray[np.float32]) -> FloatArray:
        self._n_resampled += len(waveform)
        return self._patches.feed(waveform)

    def _tags(self, patches: FloatArray) -> list[LiveTags]:
        if len(patches) == 0:
            return []
        new = self._extractor.postprocess(self._extractor.embedder(patches)).astype(np.uint8)
        frames = np.concatenate([self._earlier, new])
        longest = self._bundle.clip_frames
        stops = range(len(self._earlier) + 1, len(frames) + 1)
        windows = [frames[max(0, stop - longest) : stop] for stop in stops]
        self._earlier = frames[max(0, len(frames) - longest + 1) :] if longest > 1 else frames[:0]
        starts = self._extractor.start_seconds(self.n_frames + len(new))[self.n_frames :]
        self.n_frames += len(new)
        frame_scores, clip_scores = self._scores(windows)
        known = self._bundle.labels
        tags = self._choice.tags(frame_scores, known)
        clip_tags = self._choice.tags(clip_scores, known)
        return list(map(LiveTags, starts.tolist(), tags, clip_tags))

    def _scores(self, windows: Sequence[Frames]) -> tuple[Scores, Scores]:
        """Score the last frame of each window, and the whole window: [n, C] each."""
        bundle, embedder = self._bundle, self._extractor.embedder.provenance["name"]
        frame_scores, clip_scores = [], []
        step = max(1, BATCH_FRAMES // bundle.clip_frames)
        for start in range(0, len(windows), step):
            frames, lengths = pad(windows[start : start + step])
            scores, of_frames = bundle.clip_and_frame_scores(frames, lengths, embedder)
            clip_scores.append(scores)
            if of_frames is None:  # the head scores only clips: the frame is scored as one
                last = np.stack([window[-1:] for window in windows[start : start + step]])
                frame_scores.append(bundle.scores(last, np.ones(len(last), np.int32), embedder))
            else:
                frame_scores.append(of_frames[np.arange(len(lengths)), lengths - 1])
        return np.concatenate(frame_scores), np.concatenate(clip_scores)


def _checked(samples: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Samples as float32 or int16 [n, channels]."""
    columns = samples[:, None] if samples.ndim == 1 else samples
    if columns.ndim != 2 or columns.shape[1] == 0:
        raise OptionError(
            f"samples must have the shape [n] or [n, channels]. Received: {list(samples.shape)}"
        )
    if columns.dtype == np.int16:
        return columns
    if columns.dtype.kind != "f":
        raise OptionError(f"samples must be float in [-1, 1] or int16. Received: {samples.dtype}")
    with np.errstate(over="ignore"):  # infinite samples become 0
        return columns.astype(np.float32)
