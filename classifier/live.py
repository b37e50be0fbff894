"""Sound that is still going on: samples in as they come, tags out as each frame completes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.bundle import BATCH_FRAMES, pad
from classifier.tagger import Tagger
from classifier.tags.choice import Choice, ChoiceOptions
from classifier.tags.types import LiveTags, Scores
from vggish.audio.mono import MonoMix
from vggish.audio.resample import make_resampler
from vggish.errors import OptionError
from vggish.frames.clip import Frames
from vggish.mel_features import FloatArray, PatchStream
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from typing_extensions import Unpack


class LiveTagger:
    """Tags a sound while it goes on; for one sound, from one thread at a time.

    Its frames are those that the tagger's extractor makes of the whole sound, bit for bit,
    however the sound is cut into blocks. It never holds more than a second of sound and one clip
    of frames. Tags of a frame come with the block that completes it; at other rates than 16 kHz
    the resampler holds some samples back, less than 0.1 s of them.

    Args:
        tagger: may be shared with other sounds.
        sample_rate_hz: of the samples that will come.
        options: top_k, threshold, labels and exclude_labels, see `Tagger.tag`.

    Raises:
        OptionError: the rate is not from 4 to 384 kHz, or the choice of tags cannot be honoured.
        WeightsNotInstalledError: the tagger's embedder is not installed.
    """

    def __init__(
        self,
        tagger: Tagger,
        sample_rate_hz: int,
        **options: Unpack[ChoiceOptions],
    ) -> None:
        self._bundle = tagger.bundle
        self._extractor = tagger.extractor
        self._choice = Choice(**options)
        self._choice.classes(self._bundle.labels)
        embed_options = self._extractor.options
        self._rate_hz = sample_rate_hz
        self._resampler = make_resampler(sample_rate_hz, embed_options.resampler)
        self._patches = PatchStream(embed_options.hop_seconds, embed_options.tail)
        self._mix = MonoMix()
        self._n_resampled = 0
        self._n_heard = 0
        self._is_finished = False
        self._before: Frames = np.zeros((0, EMBEDDING_SIZE), np.uint8)
        self.n_frames = 0

    @property
    def seconds_heard(self) -> float:
        """Duration of the samples so far."""
        return self._n_heard / self._rate_hz

    def feed(self, samples: npt.NDArray[Any]) -> list[LiveTags]:
        """Hear more of the sound.

        Args:
            samples: [n] or [n, channels], float in [-1, 1] or int16; n may be 0.

        Returns:
            Tags of each frame that these samples complete, in the order of time.

        Raises:
            OptionError: the samples have another shape or dtype, or the sound was finished.
        """
        if self._is_finished:
            raise OptionError("this sound is finished; another one needs a LiveTagger of its own")
        block = _checked(samples)
        if len(block) == 0:
            return []
        self._n_heard += len(block)
        return self._tags(self._patches_of(self._resampler.feed(self._mix(block))))

    def finish(self) -> list[LiveTags]:
        """The tags that remain when no more sound comes; none if none ever came."""
        if self._is_finished or self._n_heard == 0:
            self._is_finished = True
            return []
        self._is_finished = True
        rest = self._patches_of(self._resampler.flush())
        if self._n_resampled == 0:  # less than a sample at 16 kHz is still sound
            rest = self._patches_of(np.zeros(1, np.float32))
        return self._tags(np.concatenate([rest, self._patches.flush()]))

    def _patches_of(self, waveform: npt.NDArray[np.float32]) -> FloatArray:
        self._n_resampled += len(waveform)
        return self._patches.feed(waveform)

    def _tags(self, patches: FloatArray) -> list[LiveTags]:
        if len(patches) == 0:
            return []
        new = self._extractor.postprocess(self._extractor.embedder(patches)).astype(np.uint8)
        frames = np.concatenate([self._before, new])
        longest = self._bundle.clip_frames
        stops = range(len(self._before) + 1, len(frames) + 1)
        windows = [frames[max(0, stop - longest) : stop] for stop in stops]
        self._before = frames[max(0, len(frames) - longest + 1) :] if longest > 1 else frames[:0]
        starts = self._extractor.start_seconds(self.n_frames + len(new))[self.n_frames :]
        self.n_frames += len(new)
        heard, clips = self._scores(windows)
        known = self._bundle.labels
        tags = self._choice.tags(heard, known)
        clip_tags = self._choice.tags(clips, known)
        return list(map(LiveTags, starts.tolist(), tags, clip_tags))

    def _scores(self, windows: Sequence[Frames]) -> tuple[Scores, Scores]:
        """Scores of the last frame of each window, and of the whole window: [n, C] each."""
        bundle, embedder = self._bundle, self._extractor.embedder.provenance["name"]
        heard, clips = [], []
        step = max(1, BATCH_FRAMES // bundle.clip_frames)
        for start in range(0, len(windows), step):
            frames, lengths = pad(windows[start : start + step])
            scores, of_frames = bundle.clip_and_frame_scores(frames, lengths, embedder)
            clips.append(scores)
            if of_frames is None:  # the head scores clips only: the frame is one of its own
                last = np.stack([window[-1:] for window in windows[start : start + step]])
                heard.append(bundle.scores(last, np.ones(len(last), np.int32), embedder))
            else:
                heard.append(of_frames[np.arange(len(lengths)), lengths - 1])
        return np.concatenate(heard), np.concatenate(clips)


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
