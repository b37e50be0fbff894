"""The microphone: sound as it is heard, in blocks, by way of the package sounddevice.

What records must never wait: the callback of the sound card only puts blocks into a queue. When
whoever reads them is too slow the queue is full, blocks are dropped, and the next one says so.
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

# Blocks that wait; whoever is further behind will not catch up.
MAX_WAITING_SECONDS = 10.0

# A microphone that gives nothing for so long was pulled out.
SILENT_SECONDS = 5.0

_POLL_SECONDS = 0.5


@dataclass(frozen=True, eq=False)
class MicrophoneBlock:
    """A piece of what was heard.

    Attributes:
        samples: float32 [n, channels] in [-1, 1].
        n_lost: samples of each channel that were dropped just before these.
        is_broken: whether the sound card lost some before these, nobody knows how many.
    """

    samples: npt.NDArray[np.float32]
    n_lost: int = 0
    is_broken: bool = False


class Microphone:
    """An input of a sound card; a context manager, open while it is entered.

    Args:
        device: its number, or words of its name; None for the system's default.

    Attributes:
        name: of the device.
        sample_rate_hz: the device's own.

    Raises:
        MissingPackageError: sounddevice is not installed, or PortAudio is not.
        AudioError: there is no such input, or it cannot be opened; the message lists those that
            there are.
    """

    def __init__(self, device: str | None = None) -> None:
        self._sounddevice = _import_sounddevice()
        self._what = "the default microphone" if device is None else f"the microphone {device!r}"
        self._blocks: queue.SimpleQueue[MicrophoneBlock | None] = queue.SimpleQueue()
        self._max_waiting = round(MAX_WAITING_SECONDS / BLOCK_SECONDS)
        self._n_lost, self._is_broken = 0, False
        self._stream: Any = None
        wanted = int(device) if device is not None and device.isdecimal() else device
        with self._unopened():
            found = self._sounddevice.query_devices(wanted, kind="input")
            self.name = str(found["name"])
            self.sample_rate_hz = int(found["default_samplerate"])
            self._settings = self._checked(found["index"], int(found["max_input_channels"]))

    def blocks(self) -> Iterator[MicrophoneBlock]:
        """What is heard from now on, until the device stops.

        Raises:
            AudioError: nothing comes any more.
        """
        waited = 0.0
        while True:
            try:
                block = self._blocks.get(timeout=_POLL_SECONDS)  # short, to heed Ctrl-C anywhere
            except queue.Empty:
                waited += _POLL_SECONDS
                if waited >= SILENT_SECONDS:
                    raise AudioError(
                        f"no sound came from {self.name} for {waited:g} s; was it pulled out?"
                    ) from None
                continue
            if block is None:
                return
            waited = 0.0
            yield block

    def __enter__(self) -> Microphone:
        with self._unopened():
            self._stream = self._sounddevice.InputStream(
                blocksize=round(BLOCK_SECONDS * self.sample_rate_hz),
                callback=self._hear,
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
    def _unopened(self) -> Iterator[None]:
        try:
            yield
        except (ValueError, self._sounddevice.PortAudioError) as error:
            raise AudioError(
                f"cannot open {self._what}: {first_line(error)}\n{_listed(self._sounddevice)}"
            ) from error

    def _checked(self, index: int, max_channels: int) -> dict[str, Any]:
        """One channel if the device gives it alone, else all that it has."""
        settings = {"device": index, "dtype": "float32", "samplerate": self.sample_rate_hz}
        try:
            self._sounddevice.check_input_settings(channels=1, **settings)
        except self._sounddevice.PortAudioError:
            return {**settings, "channels": max_channels}
        return {**settings, "channels": 1}

    def _hear(self, samples: npt.NDArray[np.float32], n: int, _time: Any, status: Any) -> None:
        """Called by the sound card's thread, which must not wait."""
        self._is_broken |= bool(status.input_overflow)
        if self._blocks.qsize() >= self._max_waiting:
            self._n_lost += n
            return
        self._blocks.put(MicrophoneBlock(samples.copy(), self._n_lost, self._is_broken))
        self._n_lost, self._is_broken = 0, False


def _import_sounddevice() -> Any:
    try:
        return import_extra("sounddevice", extra="live", purpose="listening to a microphone")
    except OSError as error:  # how it says that PortAudio is missing
        raise MissingPackageError(
            f"listening to a microphone needs the library PortAudio: {first_line(error)}.\n"
            "Install it with: apt install libportaudio2 (or dnf install portaudio), and the "
            "package with: pip install 'audiotag[live]'"
        ) from error


def _listed(sounddevice: Any) -> str:
    """The inputs that there are, a line each."""
    inputs = [
        f"  {number}  {device['name']}"
        for number, device in enumerate(sounddevice.query_devices())
        if device["max_input_channels"] > 0
    ]
    if not inputs:
        return "There is no microphone on this machine."
    return "\n".join(["Microphones here, for --live-device:", *inputs])
