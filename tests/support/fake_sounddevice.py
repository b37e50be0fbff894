"""A fake of the package sounddevice, whose sound card records an audio file."""

from __future__ import annotations

import threading
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


class FakeSoundDevice(types.ModuleType):
    """Replaces the module; passes the audio of `path` to the callback as fast as it returns.

    Attributes:
        ends: whether the device stops at the end of the file.
        cannot_start: whether a stream can be opened but fails to start.
        seconds_a_block: pause between blocks, to simulate a real sound card.
        overflow_at: index of the block before which an overflow is reported.
        n_open: number of streams that are not closed.
        longest_seconds: longest duration of a callback.
        done: set at the end of the file.
    """

    def __init__(self, path: Path) -> None:
        super().__init__("sounddevice")
        self.path = path
        self.PortAudioError = type("PortAudioError", (Exception,), {})
        self.devices = [
            {"name": "Built-in", "max_input_channels": 1},
            {"name": "Speakers", "max_input_channels": 0},
            {"name": "USB Audio", "max_input_channels": 2},
        ]
        self.only_all_channels = self.cannot_start = False
        self.ends = True
        self.seconds_a_block = 0.0
        self.overflow_at = -1
        self.n_open = 0
        self.longest_seconds = 0.0
        self.done = threading.Event()
        self._samples, self._rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
        self._callback: Callable[..., None] = lambda *_: None
        self._n_channels = 1

    def query_devices(self, device: int | str | None = None, kind: str | None = None) -> Any:
        if kind is None:
            return self.devices
        names = [found["name"].lower() for found in self.devices]
        if isinstance(device, str):
            matches = [n for n, name in enumerate(names) if device.lower() in name]
            if not matches:
                raise ValueError(f"No input device matching {device!r}")
            device = matches[0]
        number = 0 if device is None else device
        if not (number < len(names) and self.devices[number]["max_input_channels"]):
            raise self.PortAudioError(f"Error querying device {number}")
        return {**self.devices[number], "index": number, "default_samplerate": float(self._rate_hz)}

    def check_input_settings(self, channels: int, **_settings: Any) -> None:
        if self.only_all_channels and channels == 1:
            raise self.PortAudioError("Invalid number of channels")

    def play(self, n_samples: int, first: int = 0, *, lost: bool = False) -> None:
        """Pass samples to the callback."""
        samples = self._samples[first : first + n_samples].repeat(self._n_channels, axis=1)
        status = types.SimpleNamespace(input_overflow=lost)
        started = time.perf_counter()
        self._callback(samples, len(samples), None, status)
        self.longest_seconds = max(self.longest_seconds, time.perf_counter() - started)
        samples[:] = np.nan  # sounddevice reuses the buffer

    def InputStream(self, **options: Any) -> Any:  # noqa: N802 its name
        return _Stream(self, **options)


class _Stream:
    def __init__(
        self,
        card: FakeSoundDevice,
        *,
        callback: Any,
        finished_callback: Any,
        blocksize: int,
        channels: int,
        samplerate: int,
        device: int,
        dtype: str,
    ) -> None:
        self._card = card
        self._finished = finished_callback
        self._block = blocksize
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._play)
        card._callback, card._n_channels = callback, channels
        card.n_open += 1

    def start(self) -> None:
        if self._card.cannot_start:
            raise self._card.PortAudioError("Device unavailable")
        self._thread.start()

    def _play(self) -> None:
        card = self._card
        for number, first in enumerate(range(0, len(card._samples), self._block)):
            if self._stopping.wait(card.seconds_a_block):
                return
            card.play(self._block, first, lost=number == card.overflow_at)
        card.done.set()
        if card.ends:
            self._finished()

    def abort(self) -> None:
        self._stopping.set()
        self._thread.join()

    def close(self) -> None:
        self._card.n_open -= 1
