"""The two calls that a notebook needs: everything loaded, with the defaults."""

from __future__ import annotations

import functools

from vggish.audio import Source
from vggish.extractor import EmbedOptions, Extractor, Values
from vggish.frames import ClipFrames
from vggish.mel_features import Tail
from vggish.params import PATCH_SECONDS
from vggish.postprocess import Pca
from vggish.resample import ResamplerName
from vggish.runtime import Device, Embedder, Precision
from vggish.weights import load_embedder


def load_extractor(
    *,
    precision: Precision = "float32",
    device: Device = "auto",
    values: Values = "uint8",
    hop_seconds: float = PATCH_SECONDS,
    tail: Tail = "pad",
    resampler: ResamplerName = "soxr",
) -> Extractor:
    """Load the installed VGGish into an extractor: sound in, frames out.

    Args:
        precision: "float32" agrees with AudioSet's; "int8" is two to three times as fast and
            changes frames a little (by how much: `audiotag weights list`).
        device: "auto", "cpu" or "gpu", see `Embedder`.
        values: "uint8", "pca" or "raw", see `EmbedOptions`.
        hop_seconds: from one frame to the next, a multiple of 10 ms.
        tail: "pad" completes the last patch with silence, "drop" leaves it out.
        resampler: "soxr", or "resampy" for the reference's.

    Raises:
        WeightsNotInstalledError: VGGish is not installed; the message says how to get it.
        OptionError: an option has no such value.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    embedder, pca = load_embedder(precision=precision, device=device)
    return Extractor(embedder, pca, options)


def embed(
    source: Source,
    *,
    precision: Precision = "float32",
    values: Values = "uint8",
    hop_seconds: float = PATCH_SECONDS,
    tail: Tail = "pad",
    resampler: ResamplerName = "soxr",
) -> ClipFrames:
    """Embed one sound: a path, the bytes of a file, or a binary file object.

    The network stays loaded for the next call.

    Returns:
        Frames [n, 128] (uint8, or float32 when `values` is "pca" or "raw"), `start_seconds`
        float64 [n], and provenance.

    Raises:
        AudioError: the sound cannot be read, or there is none.
        WeightsNotInstalledError: VGGish is not installed; the message says how to get it.
        OptionError: an option has no such value.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    embedder, pca = _loaded(precision)
    return Extractor(embedder, pca, options)(source)


@functools.lru_cache(maxsize=1)
def _loaded(precision: Precision) -> tuple[Embedder, Pca]:
    return load_embedder(precision=precision)
