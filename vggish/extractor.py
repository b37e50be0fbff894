"""Turn audio into frames: decode, log-mel patches, network, PCA, quantise.

Decoding, resampling and log-mel of a long clip run in a thread of their own, one batch ahead of
the network. Memory holds two batches, whatever the duration of the clip.
"""

from __future__ import annotations

import contextlib
import functools
import pickle
import time
from collections.abc import Callable, Generator, Iterator, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from vggish.audio.sources import AudioSource, source_name
from vggish.audio.stream import AudioStream, open_audio, waveform_blocks
from vggish.common.choices import RESAMPLERS, VALUES, ResamplerName, Tail, Values, check_choice
from vggish.common.wording import as_text
from vggish.errors import OptionError
from vggish.frames.clip import ClipFrames, FrameArray
from vggish.mel_features import FloatArray, PatchStream, hop_to_frames, n_patches
from vggish.network.runtime import BATCH_PATCHES, PatchEmbedder
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS, STFT_HOP_SECONDS, VERSION
from vggish.postprocess import Pca, quantize

# Called with (seconds read so far, total seconds as the header states them, or None).
OnAudioProgress = Callable[[float, float | None], None]
T = TypeVar("T")


@dataclass(frozen=True)
class EmbedOptions:
    """Options that determine the frames, apart from the network.

    Attributes:
        values: "uint8" (quantised, as in AudioSet), "pca" (float32, whitened), or "raw" (float32,
            VGGish's pre-activation output; mini has none).
        hop_seconds: time from one frame to the next, a multiple of 10 ms. AudioSet's released
            features advance by 1 s.
        tail: "pad" completes the last patch with silence, "drop" omits it.
        resampler: "soxr", or "resampy", the resampler of the reference implementation.

    Raises:
        OptionError: an attribute has an invalid value.
    """

    values: Values = "uint8"
    hop_seconds: float = PATCH_SECONDS
    tail: Tail = "pad"
    resampler: ResamplerName = "soxr"

    def __post_init__(self) -> None:
        n_patches(0, self.hop_seconds, self.tail)
        # A numpy.float32 of 0.48 is not 0.48: round to the hop that is meant.
        hop_seconds = round(hop_to_frames(self.hop_seconds) * STFT_HOP_SECONDS, 6)
        object.__setattr__(self, "hop_seconds", hop_seconds)
        check_choice("values", self.values, VALUES)
        check_choice("resampler", self.resampler, sorted(RESAMPLERS))


class Extractor:
    """Turn audio into frames. Load it once; it may be called from several threads.

    Args:
        embedder: maps patches [n, 96, 64] to embeddings [n, 128].
        pca: PCA of the embedder's output; None if the output is whitened already.
        options: see `EmbedOptions`.

    Raises:
        OptionError: raw embeddings are requested from an embedder that has none.
    """

    def __init__(
        self, embedder: PatchEmbedder, pca: Pca | None, options: EmbedOptions | None = None
    ) -> None:
        self.embedder = embedder
        self.pca = pca
        self.options = EmbedOptions() if options is None else options
        if pca is None and self.options.values == "raw":
            raise OptionError(
                f"the embedder {embedder.provenance['name']} has no raw embeddings, as its output "
                "is whitened already: use the values pca, or VGGish (audiotag weights fetch vggish)"
            )

    def __getstate__(self) -> dict[str, Any]:
        """The attributes, if the embedder can be pickled; those of audiotag can."""
        try:
            pickle.dumps(self.embedder)
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise OptionError(
                f"the extractor cannot be sent to another process, as its embedder cannot be "
                f"pickled ({error}); make an extractor in each process"
            ) from error
        return self.__dict__

    @property
    def provenance(self) -> dict[str, Any]:
        """How frames are made; frames of equal provenance are comparable."""
        return {
            "audiotag_version": VERSION,
            "embedder": dict(self.embedder.provenance),
            "pca_sha256": None if self.pca is None else self.pca.sha256,
            **asdict(self.options),
        }

    def __call__(
        self,
        source: AudioSource | AudioStream,
        clip_id: str | None = None,
        on_progress: OnAudioProgress | None = None,
        *,
        stream: int | None = None,
    ) -> ClipFrames:
        """Embed one clip.

        Args:
            source: path, "-" for standard input, bytes, a binary file object, or an open stream
                such as that of `open_waveform`, which is closed.
            clip_id: name of the clip; the file's name without its suffix by default.
            on_progress: called with the seconds of audio read so far, and the total as the header
                states it (None if it does not).
            stream: number of the audio stream of a file, see `open_audio`.

        Returns:
            Frames [n, 128] with `start_seconds` [n] and provenance;
            n = `n_patches(samples at 16 kHz, hop_seconds, tail)`.

        Raises:
            AudioError: the audio cannot be read, or is empty.
        """
        if clip_id is None:
            name = source.name if isinstance(source, AudioStream) else source_name(source)
            clip_id = as_text(Path(name).stem)
        timings = dict.fromkeys(("decode", "front_end", "embed"), 0.0)
        with _opened(source, stream) as audio:
            blocks = list(self.stream(audio, on_progress, timings))
            dtype = np.uint8 if self.options.values == "uint8" else np.float32
            empty = np.zeros((0, EMBEDDING_SIZE), dtype)
            frames = cast(FrameArray, np.concatenate([empty, *blocks]))
            metadata = {
                **self.provenance,
                "duration_seconds": round(audio.seconds_read, 6),
                "source": {
                    "name": audio.name,
                    "sample_rate_hz": audio.sample_rate_hz,
                    "n_channels": audio.n_channels,
                    "format": audio.format,
                },
                "warnings": audio.warnings,
            }
        starts = self.start_seconds(len(frames))
        return ClipFrames(clip_id, frames, starts, metadata, timings=timings)

    def stream(
        self,
        stream: AudioStream,
        on_progress: OnAudioProgress | None = None,
        timings: MutableMapping[str, float] | None = None,
    ) -> Iterator[FrameArray]:
        """Embed audio of any duration; yield frames in blocks [m, 128] of at most 32 rows.

        Args:
            stream: the audio.
            on_progress: see `__call__`.
            timings: receives the seconds spent on each stage, see `ClipFrames`.

        Raises:
            AudioError: the audio cannot be read, or is empty.
        """
        front_end, embed = _Stopwatch(), _Stopwatch()
        opening_seconds = stream.decode_seconds
        batches = patch_batches(self._patches(stream, on_progress))
        ahead = _ahead(functools.partial(front_end.timed, next, batches, None))
        with contextlib.closing(batches), contextlib.closing(ahead):
            for batch in ahead:
                yield self.postprocess(embed.timed(self.embedder, batch))
        if timings is not None:
            timings["decode"] = stream.decode_seconds
            # The front end includes the decoding of what it reads.
            decoding_seconds = stream.decode_seconds - opening_seconds
            timings["front_end"] = front_end.seconds - decoding_seconds
            timings["embed"] = embed.seconds

    def postprocess(self, embeddings: npt.NDArray[np.float32]) -> FrameArray:
        """Convert the embedder's output [n, 128] to the values of the options [n, 128]."""
        if self.options.values == "raw":
            return embeddings
        whitened = embeddings if self.pca is None else self.pca(embeddings)
        return whitened if self.options.values == "pca" else quantize(whitened)

    def start_seconds(self, n: int) -> npt.NDArray[np.float64]:
        """Start times of the first `n` frames: float64 [n]."""
        return np.round(np.arange(n) * self.options.hop_seconds, 6)

    def _patches(
        self, stream: AudioStream, on_progress: OnAudioProgress | None
    ) -> Iterator[FloatArray]:
        patches = PatchStream(self.options.hop_seconds, self.options.tail)
        for block in waveform_blocks(stream, self.options.resampler):
            yield patches.feed(block)
            if on_progress is not None:
                on_progress(stream.seconds_read, stream.seconds_in_header)
        yield patches.flush()


def _opened(source: AudioSource | AudioStream, stream: int | None) -> AudioStream:
    if not isinstance(source, AudioStream):
        return open_audio(source, stream=stream)
    if stream is not None:
        raise OptionError(f"{source.name} is open already; choose its stream in open_audio")
    return source


def _ahead(make: Callable[[], FloatArray | None]) -> Generator[FloatArray]:
    """Yield batches from `make` until it returns None; make each while the previous is in use.

    A clip of less than one full batch needs no thread.
    """
    batch = make()
    if batch is not None and len(batch) < BATCH_PATCHES:
        yield batch
        return
    with ThreadPoolExecutor(1, "audiotag-front-end") as pool:
        while batch is not None:
            following = pool.submit(make)
            yield batch
            batch = following.result()


class _Stopwatch:
    """Total duration of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., T], *arguments: Any) -> T:
        start = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds += time.perf_counter() - start


def patch_batches(patches: Iterator[FloatArray]) -> Generator[FloatArray]:
    """Regroup patches into batches of `BATCH_PATCHES`; the last one may be smaller."""
    pending: FloatArray | None = None
    for block in patches:
        pending = block if pending is None else np.concatenate([pending, block])
        while len(pending) >= BATCH_PATCHES:
            yield pending[:BATCH_PATCHES]
            pending = pending[BATCH_PATCHES:]
    if pending is not None and len(pending):
        yield pending
