"""Load an extractor, or embed one clip, in one call."""

from __future__ import annotations

import functools

from vggish.audio.sources import AudioSource
from vggish.common.choices import Device, EmbedderName, Precision, ResamplerName, Tail, Values
from vggish.embedders.choice import find_embedder
from vggish.extractor import EmbedOptions, Extractor
from vggish.frames.clip import ClipFrames
from vggish.network.runtime import Embedder
from vggish.params import PATCH_SECONDS
from vggish.postprocess import Pca


def load_extractor(
    embedder: EmbedderName = "auto",
    *,
    precision: Precision | None = None,
    device: Device = "auto",
    values: Values = "uint8",
    hop_seconds: float = PATCH_SECONDS,
    tail: Tail = "pad",
    resampler: ResamplerName = "soxr",
) -> Extractor:
    """Load an embedder into an extractor, which turns audio into frames.

    Args:
        embedder: "vggish", "mini" (built in), or "auto" for VGGish if it is installed and
            otherwise mini; `metadata["embedder"]` of each clip names it.
        precision: "float32" (VGGish's default) reproduces AudioSet's frames; "int8" is two to
            three times as fast, and changes frames a little (`audiotag weights list` shows by
            how much). mini has one precision.
        device: "auto", "cpu" or "gpu", see `Embedder`.
        values: "uint8", "pca" or "raw", see `EmbedOptions`.
        hop_seconds: time from one frame to the next, a multiple of 10 ms.
        tail: "pad" completes the last patch with silence, "drop" omits it.
        resampler: "soxr", or "resampy", the resampler of the reference implementation.

    Raises:
        WeightsNotInstalledError: "vggish" is not installed; the message says how to install it.
        WeightsError: the embedder's files are damaged.
        OptionError: an option has an invalid value, or the embedder does not support it.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    return Extractor(*find_embedder(embedder, precision).load(device), options)


def embed(
    source: AudioSource,
    *,
    embedder: EmbedderName = "auto",
    precision: Precision | None = None,
    values: Values = "uint8",
    hop_seconds: float = PATCH_SECONDS,
    tail: Tail = "pad",
    resampler: ResamplerName = "soxr",
    stream: int | None = None,
) -> ClipFrames:
    """Embed one clip: a path, the bytes of a file, or a binary file object.

    The network stays loaded for the next call. The options are those of `load_extractor`, and
    `stream`, the number of the audio stream of a file with several, from 1.

    Returns:
        Frames [n, 128] (uint8, or float32 if `values` is "pca" or "raw"), `start_seconds`
        float64 [n], and provenance, which names the embedder.

    Raises:
        AudioError: the audio cannot be read, or is empty.
        WeightsNotInstalledError, WeightsError, OptionError: see `load_extractor`.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    return Extractor(*_load_cached(embedder, precision), options)(source, stream=stream)


@functools.lru_cache(maxsize=1)
def _load_cached(name: EmbedderName, precision: Precision | None) -> tuple[Embedder, Pca | None]:
    return find_embedder(name, precision).load()
