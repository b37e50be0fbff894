"""Embed audio: AudioSet-compatible VGGish frames from files, streams and waveforms.

A frame is a vector of 128 bytes that describes 0.96 s of audio. Classifiers for sound events are
trained on such frames; AudioSet is published in this format.

    import vggish

    clip = vggish.embed("clip.wav")
    clip.frames                                  # uint8 [n, 128]
    clip.start_seconds                           # float64 [n]: 0.0, 0.96, 1.92 ...
    vggish.write_frames("clip.npz", clip)        # or .csv, .parquet, .jsonl, .tfrecord

To embed many clips, load the network once:

    extractor = vggish.load_extractor("vggish", precision="int8", hop_seconds=1.0)
    clips = [extractor(path) for path in paths]

Each stage can also be used alone:

    waveform = vggish.load_audio("clip.wav")     # float32 [n_samples], mono, 16 kHz
    patches = vggish.log_mel_patches(waveform)   # float32 [n, 96, 64]
    embedder, pca = vggish.load_embedder()       # VGGish, and the PCA of AudioSet
    raw = embedder(patches)                      # float32 [n, 128]
    frames = vggish.quantize(pca(raw))           # uint8 [n, 128]

The embedder is VGGish if it is installed (`audiotag weights fetch vggish`), otherwise mini, a
small network that is part of audiotag. Frames name their embedder in `clip.metadata`; do not mix
frames of different embedders. All errors are subclasses of `vggish.AudiotagError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes
from vggish.params import VERSION

if TYPE_CHECKING:
    from vggish.api import embed as embed, load_extractor as load_extractor
    from vggish.audio.limits import AudioLimits as AudioLimits
    from vggish.audio.stream import (
        load_audio as load_audio,
        open_audio as open_audio,
        open_waveform as open_waveform,
    )
    from vggish.embedders.choice import load_embedder as load_embedder
    from vggish.errors import AudiotagError as AudiotagError
    from vggish.extractor import EmbedOptions as EmbedOptions, Extractor as Extractor
    from vggish.frames.clip import ClipFrames as ClipFrames
    from vggish.frames.files import read_frames as read_frames, write_frames as write_frames
    from vggish.mel_features import (
        log_mel_patches as log_mel_patches,
        log_mel_spectrogram as log_mel_spectrogram,
    )
    from vggish.network.runtime import Embedder as Embedder
    from vggish.postprocess import (
        Pca as Pca,
        dequantize as dequantize,
        load_pca as load_pca,
        quantize as quantize,
    )

__version__ = VERSION

__getattr__, __dir__, __all__ = lazy_attributes(
    __name__,
    {
        "vggish.api": ("embed", "load_extractor"),
        "vggish.audio.limits": ("AudioLimits",),
        "vggish.audio.stream": ("load_audio", "open_audio", "open_waveform"),
        "vggish.embedders.choice": ("load_embedder",),
        "vggish.errors": ("AudiotagError",),
        "vggish.extractor": ("EmbedOptions", "Extractor"),
        "vggish.frames.clip": ("ClipFrames",),
        "vggish.frames.files": ("read_frames", "write_frames"),
        "vggish.mel_features": ("log_mel_patches", "log_mel_spectrogram"),
        "vggish.network.runtime": ("Embedder",),
        "vggish.postprocess": ("Pca", "dequantize", "load_pca", "quantize"),
    },
)
