"""Decode several parts of an audio file while reading it once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from classifier.audio_data.clip_list import AudioClip
from vggish.audio.decoder import Block
from vggish.audio.resample import Waveform
from vggish.audio.stream import AudioStream


def without_overlaps(clips: Sequence[AudioClip]) -> list[list[AudioClip]]:
    """Group parts of a file into rows of parts that do not overlap, each sorted by start."""
    rows: list[list[AudioClip]] = []
    for clip in sorted(clips, key=lambda clip: clip.start_seconds):
        for row in rows:
            end = row[-1].end_seconds
            if end is not None and end <= clip.start_seconds:
                row.append(clip)
                break
        else:
            rows.append([clip])
    return rows


class SequentialReader:
    """Reads the mono samples of a file forward; `position` counts those that are read."""

    def __init__(self, stream: AudioStream) -> None:
        self.stream = stream
        self.position = 0
        self._blocks = stream.blocks()
        self._rest: Waveform = np.zeros(0, np.float32)

    @property
    def seconds(self) -> float:
        """Position in seconds."""
        return self.position / self.stream.sample_rate_hz

    def read(self, n_samples: int) -> Waveform:
        """Read at least one and up to `n_samples` samples; none at the end of the file."""
        if not len(self._rest):
            self._rest = next(self._blocks, self._rest)
        samples, self._rest = self._rest[:n_samples], self._rest[n_samples:]
        self.position += len(samples)
        return samples

    def skip_to(self, position: int) -> None:
        """Skip the samples before a position, or up to the end of the file."""
        while self.position < position and len(self.read(position - self.position)):
            pass


class PartDecoder:
    """Decoder of a part of an audio file; see `vggish.audio.decoder.Decoder`."""

    n_channels = 1
    n_frames: int | None = None

    def __init__(self, reader: SequentialReader, clip: AudioClip) -> None:
        self.sample_rate_hz = reader.stream.sample_rate_hz
        self.format = reader.stream.format
        self.is_float_pcm = False  # the samples of the whole file are scaled already
        self.warnings: list[str] = []  # the warnings of the whole file are used instead
        self._reader = reader
        self._start = round(clip.start_seconds * self.sample_rate_hz)
        self._n_left = sys.maxsize
        if clip.end_seconds is not None:
            # A part has at least one sample.
            self._n_left = max(1, round(clip.end_seconds * self.sample_rate_hz) - self._start)

    def read(self, n_frames: int) -> Block:
        """Read up to `n_frames` samples of the part."""
        self._reader.skip_to(self._start)
        samples = self._reader.read(min(n_frames, self._n_left))
        self._n_left -= len(samples)
        return samples[:, None]

    def interrupt(self) -> None:
        """Do nothing: whoever opened the file interrupts it."""

    def close(self) -> None:
        """Do nothing: whoever opened the file closes it."""
