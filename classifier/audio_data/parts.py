"""Decode parts of audio files, each file opened once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from classifier.audio_data.clip_list import AudioClip
from vggish.audio.decoders import Block
from vggish.audio.resample import Waveform
from vggish.audio.stream import AudioStream


def drop_overlaps(sounds: Sequence[AudioClip]) -> list[list[AudioClip]]:
    """Parts of one file in rows, each of which one reading of the file from front to end serves."""
    rows: list[list[AudioClip]] = []
    for sound in sorted(sounds, key=lambda sound: sound.start_seconds):
        for row in rows:
            end = row[-1].end_seconds
            if end is not None and end <= sound.start_seconds:
                row.append(sound)
                break
        else:
            rows.append([sound])
    return rows


class Reader:
    """The mono samples of a sound, read forward, part after part."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.position = 0
        self._blocks = stream.blocks()
        self._rest = np.zeros(0, np.float32)

    @property
    def seconds(self) -> float:
        """How far it was read."""
        return self.position / self.stream.sample_rate_hz

    def read(self, n_samples: int) -> Waveform:
        """Up to `n_samples` more; none at the end only."""
        if not len(self._rest):
            self._rest = next(self._blocks, self._rest)
        samples, self._rest = self._rest[:n_samples], self._rest[n_samples:]
        self.position += len(samples)
        return samples

    def skip_to(self, position: int) -> None:
        """Leave out the samples before `position`, or all if there are fewer."""
        while self.position < position and len(self.read(position - self.position)):
            pass


class PartDecoder:
    """A decoder of a part of an audio file; see `vggish.audio.decoders.Decoder`."""

    n_channels = 1
    n_frames: int | None = None

    def __init__(self, reader: Reader, sound: AudioClip) -> None:
        self.sample_rate_hz = reader.stream.sample_rate_hz
        self.format = reader.stream.format
        self.warnings: list[str] = []  # those of the whole are told
        self._reader = reader
        start, end = sound.start_seconds * self.sample_rate_hz, sound.end_seconds
        self._start = round(start)
        # The shortest part is a sample.
        self._n_left = (
            sys.maxsize if end is None else max(1, round(end * self.sample_rate_hz) - self._start)
        )

    def read(self, n_frames: int) -> Block:
        self._reader.skip_to(self._start)
        samples = self._reader.read(min(n_frames, self._n_left))
        self._n_left -= len(samples)
        return samples[:, None]

    def interrupt(self) -> None:
        """The whole is interrupted by who opened it."""

    def close(self) -> None:
        """The whole is closed by who opened it."""
