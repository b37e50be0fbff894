"""Synthetic audio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish.params import SAMPLE_RATE_HZ


def make_sound(seconds: float, rate_hz: int = SAMPLE_RATE_HZ, seed: int = 0) -> Any:
    """Synthesise a float32 waveform with energy in every band: chirp, noise bursts, silence."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate_hz)) / rate_hz
    chirp = np.sin(2 * np.pi * (200 * times + 150 * times**2))
    bursts = rng.normal(size=len(times)) * (np.sin(2 * np.pi * 0.7 * times + seed) > 0.3)
    return (0.4 * chirp + 0.1 * bursts).clip(-0.99, 0.99).astype(np.float32)


@pytest.fixture
def write_sound(tmp_path: Path) -> Callable[..., Path]:
    """Write synthetic audio to a file: `write_sound("a.wav", seconds=2.0, rate_hz=44100)`."""
    import soundfile

    def write(
        name: str,
        seconds: float = 2.0,
        rate_hz: int = SAMPLE_RATE_HZ,
        n_channels: int = 1,
        seed: int = 0,
        **options: Any,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = make_sound(seconds, rate_hz, seed)
        soundfile.write(path, np.tile(waveform[:, None], (1, n_channels)), rate_hz, **options)
        return path

    return write
