"""The two calls that a notebook needs: everything loaded, with the defaults."""

from __future__ import annotations

import functools

from vggish.audio.sources import Source
from vggish.common.choices import Device, EmbedderName, Precision, ResamplerName, Tail, Values
from vggish.embedders.choice import load
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
    """Load an embedder into an extractor: sound in, frames out.

    Args:
        embedder: "vggish", "mini", or "auto" for VGGish where it is installed and mini, which is
            built in, elsewhere; `metadata["embedder"]` of each clip says which.
        precision: of VGGish, "float32" (the default) agrees with AudioSet's; "int8" is two to
            three times as fast and changes frames a little (by how much: `audiotag weights
            list`). mini has one only.
        device: "auto", "cpu" or "gpu", see `Embedder`.
        values: "uint8", "pca" or "raw", see `EmbedOptions`.
        hop_seconds: from one frame to the next, a multiple of 10 ms.
        tail: "pad" completes the last patch with silence, "drop" leaves it out.
        resampler: "soxr", or "resampy" for the reference's.

    Raises:
        WeightsNotInstalledError: "vggish" is not installed; the message says how to get it.
        WeightsError: the embedder's files are damaged.
        OptionError: an option has no such value, or the embedder has not what it asks for.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    network, pca = load(embedder, precision=precision, device=device)
    return Extractor(network, pca, options)


def embed(
    source: Source,
    *,
    embedder: EmbedderName = "auto",
    precision: Precision | None = None,
    values: Values = "uint8",
    hop_seconds: float = PATCH_SECONDS,
    tail: Tail = "pad",
    resampler: ResamplerName = "soxr",
) -> ClipFrames:
    """Embed one sound: a path, the bytes of a file, or a binary file object.

    The network stays loaded for the next call; so "auto" does not change from clip to clip when
    VGGish is installed meanwhile. The other arguments are those of `load_extractor`.

    Returns:
        Frames [n, 128] (uint8, or float32 when `values` is "pca" or "raw"), `start_seconds`
        float64 [n], and provenance, which names the embedder.

    Raises:
        AudioError: the sound cannot be read, or there is none.
        WeightsNotInstalledError: "vggish" is not installed; the message says how to get it.
        WeightsError: the embedder's files are damaged.
        OptionError: an option has no such value, or the embedder has not what it asks for.
    """
    options = EmbedOptions(values=values, hop_seconds=hop_seconds, tail=tail, resampler=resampler)
    network, pca = _loaded(embedder, precision)
    return Extractor(network, pca, options)(source)


@functools.lru_cache(maxsize=1)
def _loaded(name: EmbedderName, precision: Precision | None) -> tuple[Embedder, Pca | None]:
    return load(name, precision=precision)
