"""Mix channels to mono at a lawful level, and report what is wrong with the samples."""

from __future__ import annotations

from vggish.audio.mono.levels import Level, Limiter, PeakMeter
from vggish.audio.mono.mix import SILENCE, SILENT_PEAK, MonoMix, in_pieces

__all__ = ["SILENCE", "SILENT_PEAK", "Level", "Limiter", "MonoMix", "PeakMeter", "in_pieces"]
