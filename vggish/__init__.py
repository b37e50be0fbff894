"""Sound -> log-mel patches -> AudioSet-compatible 128-d frames, by VGGish or by mini.

    import vggish

    clip = vggish.embed("clip.wav")              # frames uint8 [n, 128], start_seconds [n]
    vggish.write_frames("clip.npz", clip)

    extractor = vggish.load_extractor("vggish", precision="int8", hop_seconds=1.0)
    for path in paths:                           # the network is loaded once
        clip = extractor(path)

    waveform = vggish.load_audio("clip.wav")     # float32 [n_samples], mono, 16 kHz
    patches = vggish.log_mel_patches(waveform)   # float32 [n, 96, 64]

Names are loaded when they are first used, so that importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from vggish.params import VERSION

if TYPE_CHECKING:
    from vggish.api import embed, load_extractor
    from vggish.audio.limits import AudioLimits
    from vggish.audio.stream import load_audio, open_audio, open_waveform
    from vggish.embedders.installed import load_embedder
    from vggish.errors import AudiotagError
    from vggish.extractor import EmbedOptions, Extractor
    from vggish.frames.clip import ClipFrames
    from vggish.frames.files import read_frames, write_frames
    from vggish.mel_features import log_mel_patches, log_mel_spectrogram
    from vggish.network.runtime import Embedder
    from vggish.postprocess import Pca, dequantize, load_pca, quantize

__version__ = VERSION

_MODULE_OF = {
    "AudioLimits": "audio.limits",
    "AudiotagError": "errors",
    "ClipFrames": "frames.clip",
    "EmbedOptions": "extractor",
    "Embedder": "network.runtime",
    "Extractor": "extractor",
    "Pca": "postprocess",
    "dequantize": "postprocess",
    "embed": "api",
    "load_audio": "audio.stream",
    "load_embedder": "embedders.installed",
    "load_extractor": "api",
    "load_pca": "postprocess",
    "log_mel_patches": "mel_features",
    "log_mel_spectrogram": "mel_features",
    "open_audio": "audio.stream",
    "open_waveform": "audio.stream",
    "quantize": "postprocess",
    "read_frames": "frames.files",
    "write_frames": "frames.files",
}

__all__ = [
    "AudioLimits",
    "AudiotagError",
    "ClipFrames",
    "EmbedOptions",
    "Embedder",
    "Extractor",
    "Pca",
    "__version__",
    "dequantize",
    "embed",
    "load_audio",
    "load_embedder",
    "load_extractor",
    "load_pca",
    "log_mel_patches",
    "log_mel_spectrogram",
    "open_audio",
    "open_waveform",
    "quantize",
    "read_frames",
    "write_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'vggish' has no attribute {name!r}")
    return getattr(importlib.import_module(f"vggish.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
