"""Decode audio from any source, mix it to mono and resample it, in blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes

if TYPE_CHECKING:
    from vggish.audio.limits import AudioLimits as AudioLimits
    from vggish.audio.stream import (
        AudioStream as AudioStream,
        load_audio as load_audio,
        open_audio as open_audio,
        open_waveform as open_waveform,
    )

__getattr__, __dir__, __all__ = lazy_attributes(
    __name__,
    {
        "vggish.audio.limits": ("AudioLimits",),
        "vggish.audio.stream": ("AudioStream", "load_audio", "open_audio", "open_waveform"),
    },
)
