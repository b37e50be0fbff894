"""Record from a microphone in blocks, with the package sounddevice.

The recording thread must not wait: its callback only puts blocks into a queue. If the reader is
too slow and the queue is full, blocks are dropped, and the next block says how many samples.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.common.extras import import_extra
from vggish.errors import AudioError, MissingPackageError, first_line

BLOCK_SECONDS = 0.05
# Length of the queue; a reader further behind will not catch up.
MAX_WAITING_SECONDS = 10.0
# A microphone without data for this long was disconnected.
SILENT_SECONDS = 5.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class MicrophoneBlock:
    """A block of recorded audio."""

    samples: npt.NDArray[np.float32]  # [n, channels] in [-1, 1]
    n_lost: int = 0  # samples per channel that were dropped before this block
    is_broken: bool = False  # the sound card lost an unknown number of samples before this block


class Microphone:
    """An input of a sound card; a context manager that records while it is entered.

    `device` is its number, or words of its name; None for the system's default. The sample rate
    is the device's default. The message of an `AudioError` on opening lists the inputs.
    """

    def __init__(self, device: str | None = None) -> None:
        self._sounddevice = _import_sounddevice()
        self._description = (
            "the default microphone" if device is None else f"the microphone {device!r}"
        )
        self._blocks: queue.SimpleQueue[MicrophoneBlock | None] = queue.SimpleQueue()
        self._max_waiting = round(MAX_WAITING_SECONDS / BLOCK_SECONDS)
        self._n_lost, self._is_broken = 0, False
        self._stream: Any = None
        key = int(device) if device is not None and device.isdecimal() else device
        with self._explain_errors():
            found = self._sounddevice.query_devices(key, kind="input")
            self.name = str(found["name"])
            self.sample_rate_hz = int(found["default_samplerate"])
            self._settings = self._choose_channels(found["index"], int(found["max_input_channels"]))

    def blocks(self) -> Iterator[MicrophoneBlock]:
        """Record from now on, until the device stops; `AudioError` if it sends no more data."""
        waited = 0.0
        while True:
            try:  # for a short time, so that Ctrl-C works on all systems
                block = self._blocks.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                waited += _POLL_SECONDS
                if waited >= SILENT_SECONDS:
                    raise AudioError(
                        f"no audio from {self.name} for {waited:g} s; was it disconnected?"
                    ) from None
                continue
            if block is None:
                return
            waited = 0.0
            yield block

    def __enter__(self) -> Microphone:
        with self._explain_errors():
            self._stream = self._sounddevice.InputStream(
                blocksize=round(BLOCK_SECONDS * self.sample_rate_hz),
                callback=self._on_block,
                finished_callback=lambda: self._blocks.put(None),
                **self._settings,
            )
            try:
                self._stream.start()
            except BaseException:
                self._stream.close()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._stream.abort()
        self._stream.close()

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise AudioError(
                f"cannot open {self._description}: {first_line(error)}\n{self._list_inputs()}"
            ) from error

    def _list_inputs(self) -> str:
        inputs = [
            f"  {number}  {device['name']}"
            for number, device in enumerate(self._sounddevice.query_devices())
            if device["max_input_channels"] > 0
        ]
        if not inputs:
            return "This machine has no microphone."
        return "\n".join(["Microphones, for --live-device:", *inputs])

    def _choose_channels(self, index: int, max_channels: int) -> dict[str, Any]:
        """Settings for one channel if the device can record it alone, otherwise for all."""
        settings = {"device": index, "dtype": "float32", "samplerate": self.sample_rate_hz}
        try:
            self._sounddevice.check_input_settings(channels=1, **settings)
        except self._sounddevice.PortAudioError:
            return {**settings, "channels": max_channels}
        return {**settings, "channels": 1}

    def _on_block(self, samples: npt.NDArray[np.float32], n: int, _time: Any, status: Any) -> None:
        """Called in the sound card's thread, which must not wait."""
        self._is_broken |= bool(status.input_overflow)
        if self._blocks.qsize() >= self._max_waiting:
            self._n_lost += n
            return
        self._blocks.put(MicrophoneBlock(samples.copy(), self._n_lost, self._is_broken))
        self._n_lost, self._is_broken = 0, False


def _import_sounddevice() -> Any:
    try:
        return import_extra("sounddevice", extra="live", purpose="recording from a microphone")
    except OSError as error:  # PortAudio is missing
        raise MissingPackageError(
            f"recording from a microphone needs the library PortAudio: {first_line(error)}.\n"
            "Install it with: apt install libportaudio2 (or dnf install portaudio), and the "
            "package with: pip install 'audiotag[live]'"
        ) from error
