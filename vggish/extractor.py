"""The extractor: a file or a stream of sound -> frames.

Decoding, resampling and log-mel of a long sound run in a thread of their own, one batch ahead of
the network; memory holds two batches, whatever the length of the sound.
"""

from __future__ import annotations

import contextlib
import functools
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
from vggish.common.choices import RESAMPLERS, VALUES, ResamplerName, Tail, Values
from vggish.common.wording import as_text
from vggish.errors import OptionError
from vggish.frames.clip import ClipFrames, FrameArray
from vggish.mel_features import FloatArray, PatchStream, hop_to_frames, n_patches
from vggish.network.runtime import BATCH_PATCHES, PatchEmbedder
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS, STFT_HOP_SECONDS, VERSION
from vggish.postprocess import Pca, quantize

OnAudioProgress = Callable[[float, float | None], None]
T = TypeVar("T")


@dataclass(frozen=True)
class EmbedOptions:
    """What decides the values of the frames, besides the network.

    Attributes:
        values: "uint8" frames as AudioSet's, "pca" (float32, whitened), or "raw" (float32,
            VGGish's pre-activation output; mini has none).
        hop_seconds: time from one frame to the next, a multiple of 10 ms. AudioSet's released
            features advance by 1 s.
        tail: "pad" completes the last patch with silence, "drop" leaves it out.
        resampler: "soxr", or "resampy" for the reference's.

    Raises:
        OptionError: an attribute has another value than these.
    """

    values: Values = "uint8"
    hop_seconds: float = PATCH_SECONDS
    tail: Tail = "pad"
    resampler: ResamplerName = "soxr"

    def __post_init__(self) -> None:
        n_patches(0, self.hop_seconds, self.tail)
        # A numpy.float32 of 0.48 is not 0.48; times and JSON want the number that is meant.
        hop_seconds = round(hop_to_frames(self.hop_seconds) * STFT_HOP_SECONDS, 6)
        object.__setattr__(self, "hop_seconds", hop_seconds)
        if self.values not in VALUES:
            raise OptionError(f"values must be one of {VALUES}. Received: {self.values!r}")
        if self.resampler not in RESAMPLERS:
            raise OptionError(
                f"resampler must be one of {sorted(RESAMPLERS)}. Received: {self.resampler!r}"
            )


class Extractor:
    """Sound in, frames out. Loaded once; safe to call from several threads.

    Args:
        embedder: patches [n, 96, 64] -> embeddings [n, 128].
        pca: the PCA of the embedder's space; None if its embeddings are whitened already.
        options: see `EmbedOptions`.

    Raises:
        OptionError: raw embeddings are asked for, and the embedder has none.
    """

    def __init__(
        self, embedder: PatchEmbedder, pca: Pca | None, options: EmbedOptions | None = None
    ) -> None:
        self.embedder = embedder
        self.pca = pca
        self.options = EmbedOptions() if options is None else options
        if pca is None and self.options.values == "raw":
            raise OptionError(
                f"the embedder {embedder.provenance['name']} has no raw embeddings, for what it "
                "gives is whitened already: use the values pca, or VGGish (audiotag weights fetch "
                "vggish)"
            )

    @property
    def provenance(self) -> dict[str, Any]:
        """What every output says of how it was made; equal provenance, comparable frames."""
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
    ) -> ClipFrames:
        """Embed one sound.

        Args:
            source: path, "-" for standard input, bytes, a binary file object, or a stream that
                was opened already, as by `open_waveform`; it is closed.
            clip_id: name of the clip; the file's name without its suffix by default.
            on_progress: called with the seconds of sound read so far, and in all as the header
                has it (None when it does not say).

        Returns:
            Frames [n, 128] with `start_seconds` [n] and provenance;
            n = `n_patches(samples at 16 kHz, hop_seconds, tail)`.

        Raises:
            AudioError: the sound cannot be read, or there is none.
        """
        if clip_id is None:
            name = source.name if isinstance(source, AudioStream) else source_name(source)
            clip_id = as_text(Path(name).stem)
        timings = dict.fromkeys(("decode", "front_end", "embed"), 0.0)
        with source if isinstance(source, AudioStream) else open_audio(source) as stream:
            blocks = list(self.stream(stream, on_progress, timings))
            frames = cast(FrameArray, np.concatenate([self._empty(), *blocks]))
            metadata = {
                **self.provenance,
                "duration_seconds": round(stream.seconds_read, 6),
                "source": {
                    "name": stream.name,
                    "sample_rate_hz": stream.sample_rate_hz,
                    "n_channels": stream.n_channels,
                    "format": stream.format,
                },
                "warnings": stream.warnings,
            }
        starts = self.start_seconds(len(frames))
        return ClipFrames(clip_id, frames, starts, metadata, timings=timings)

    def stream(
        self,
        stream: AudioStream,
        on_progress: OnAudioProgress | None = None,
        timings: MutableMapping[str, float] | None = None,
    ) -> Iterator[FrameArray]:
        """Frames of a sound of any length, in blocks [m, 128] of at most 32 rows.

        Args:
            stream: the sound.
            on_progress: see `__call__`.
            timings: gets the seconds spent on each stage, see `ClipFrames`.

        Raises:
            AudioError: the sound turns out unreadable, or empty.
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
            # What is read is decoded on the way.
            decoding_seconds = stream.decode_seconds - opening_seconds
            timings["front_end"] = front_end.seconds - decoding_seconds
            timings["embed"] = embed.seconds

    def postprocess(self, embeddings: npt.NDArray[np.float32]) -> FrameArray:
        """What the embedder gives, [n, 128] -> the values that the options ask for, [n, 128]."""
        if self.options.values == "raw":
            return embeddings
        whitened = embeddings if self.pca is None else self.pca(embeddings)
        return whitened if self.options.values == "pca" else quantize(whitened)

    def start_seconds(self, n: int) -> npt.NDArray[np.float64]:
        """Where each of the first `n` frames begins: float64 [n]."""
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

    def _empty(self) -> FrameArray:
        if self.options.values == "uint8":
            return np.zeros((0, EMBEDDING_SIZE), np.uint8)
        return np.zeros((0, EMBEDDING_SIZE), np.float32)


def _ahead(make: Callable[[], FloatArray | None]) -> Generator[FloatArray]:
    """The batches that `make` gives until None, each made while the one before is in use.

    A sound of a single batch, which is less than a full one, needs no thread for that.
    """
    batch = make()
    if batch is not None and len(batch) < BATCH_PATCHES:
        yield batch
        return
    with ThreadPoolExecutor(1, "audiotag-front-end") as pool:
        while batch is not None:
            next_one = pool.submit(make)
            yield batch
            batch = next_one.result()


class _Stopwatch:
    """How long calls took, all together."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def timed(self, call: Callable[..., T], *arguments: Any) -> T:
        began = time.perf_counter()
        try:
            return call(*arguments)
        finally:
            self.seconds += time.perf_counter() - began


def patch_batches(patches: Iterator[FloatArray]) -> Generator[FloatArray]:
    """Regroup patches into batches of `BATCH_PATCHES`; the last one may be smaller."""
    waiting: list[FloatArray] = []
    n_waiting = 0
    for some in patches:
        waiting.append(some)
        n_waiting += len(some)
        if n_waiting < BATCH_PATCHES:
            continue
        joined = np.concatenate(waiting)
        n_full = len(joined) - len(joined) % BATCH_PATCHES
        for start in range(0, n_full, BATCH_PATCHES):
            yield joined[start : start + BATCH_PATCHES]
        waiting, n_waiting = [joined[n_full:]], len(joined) - n_full
    if n_waiting:
        yield np.concatenate(waiting)
