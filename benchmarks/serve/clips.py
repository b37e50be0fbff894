"""Clips of ten seconds for the service benchmark, and the requests that upload them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from vggish.embedders.install import shipped_recordings

RATE_HZ = 44_100
CLIP_SECONDS = 10
N_SYNTHETIC = 4
_BOUNDARY = "audiotag-benchmark-boundary"

Waveform = npt.NDArray[np.float32]


def write_clips(directory: Path, n_channels: int) -> list[Path]:
    """Write 16-bit WAVs at 44.1 kHz: the included recordings, looped, and synthetic clips."""
    paths = []
    for name, mono in _waveforms():
        path = directory / f"{name}.wav"
        channels = np.tile(mono[: RATE_HZ * CLIP_SECONDS, None], (1, n_channels))
        soundfile.write(path, channels, RATE_HZ, subtype="PCM_16")
        paths.append(path)
    return paths


def _waveforms() -> Iterator[tuple[str, Waveform]]:
    for path in shipped_recordings():
        waveform, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        mono = soxr.resample(waveform.mean(axis=1), rate_hz, RATE_HZ)
        yield path.stem, np.resize(mono, RATE_HZ * CLIP_SECONDS).astype(np.float32)
    times = np.arange(RATE_HZ * CLIP_SECONDS) / RATE_HZ
    for seed in range(N_SYNTHETIC):
        rng = np.random.default_rng(seed)
        pitches = rng.uniform(80, 4000, 3)
        tones = sum(np.sin(2 * np.pi * pitch * times) for pitch in pitches)
        bursts = rng.normal(size=len(times)) * (np.sin(2 * np.pi * (seed + 1) * times) > 0.5)
        yield f"synthetic_{seed}", (0.2 * tones + 0.1 * bursts).clip(-0.99, 0.99).astype(np.float32)


def write_requests(clips: list[Path], directory: Path) -> list[Path]:
    """Write the request that uploads each clip as a form, with headers and body."""
    paths = []
    for clip in clips:
        path = directory / f"{clip.stem}.http"
        path.write_bytes(upload_request(clip.name, clip.read_bytes()))
        paths.append(path)
    return paths


def upload_request(name: str, content: bytes) -> bytes:
    """Return the bytes of a `POST /classify` with a form whose field `file` has the content."""
    opening = (
        f"--{_BOUNDARY}\r\n"
        f'Content-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: audio/wav\r\n\r\n"
    ).encode()
    body = opening + content + f"\r\n--{_BOUNDARY}--\r\n".encode()
    head = (
        "POST /classify HTTP/1.1\r\n"
        "Host: 127.0.0.1\r\n"
        "Accept: application/json\r\n"
        f"Content-Type: multipart/form-data; boundary={_BOUNDARY}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    return head + body
