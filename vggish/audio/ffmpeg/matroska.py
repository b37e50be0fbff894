"""Read the Matroska stream of PCM audio that ffmpeg writes to a pipe (RFC 9559).

Unlike WAV or AU, Matroska gives a time to each packet of samples, so that audio that starts late or
has gaps is recognised. Times are in milliseconds, the default of the format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import IO

import numpy as np
import numpy.typing as npt

_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_TRACKS, _TRACK, _AUDIO, _BLOCK_GROUP = 0x1654AE6B, 0xAE, 0xE1, 0xA0
_SAMPLE_RATE, _CHANNELS = 0xB5, 0x9F
_TIMESTAMP, _SIMPLE_BLOCK, _BLOCK = 0xE7, 0xA3, 0xA1
_PARENTS = frozenset({_TRACKS, _TRACK, _AUDIO, _BLOCK_GROUP})
# Of the bits of a number of 1 to 8 bytes; the first bits of the first byte give its length.
_MASKS = tuple((1 << 7 * length) - 1 for length in range(9))
# Times are in milliseconds.
_ROUNDING_SECONDS = 0.002
_BLOCK_HEADER = struct.Struct(">hB")  # time after that of the cluster, and flags


class MatroskaPcm:
    """One track of 32-bit float PCM.

    Attributes:
        sample_rate_hz: of the track.
        n_channels: of the track.

    Raises:
        EOFError: the stream ends before the track is described.
    """

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe = pipe
        self.sample_rate_hz = 0
        self.n_channels = 1  # the default of the format
        for name, content in self._top_elements():
            if name == _TRACKS:
                for field, begin, end in _leaves(content):
                    value = content[begin:end]
                    if field == _SAMPLE_RATE:
                        (rate,) = struct.unpack(">d" if len(value) == 8 else ">f", value)
                        self.sample_rate_hz = round(rate)
                    elif field == _CHANNELS:
                        self.n_channels = int.from_bytes(value, "big")
                break
        if self.sample_rate_hz == 0:
            raise EOFError

    def packets(self) -> Iterator[tuple[float, npt.NDArray[np.float32]]]:
        """Start in seconds and samples float32 [n, n_channels], joined where there is no gap."""
        frame_bytes = 4 * self.n_channels
        for name, content in self._top_elements():
            if name != _CLUSTER:
                continue
            joined: list[memoryview] = []
            n_bytes, start = 0, 0.0
            for seconds, body in _blocks(content):
                end = start + n_bytes / frame_bytes / self.sample_rate_hz
                if joined and abs(seconds - end) > _ROUNDING_SECONDS:
                    yield start, self._samples(joined)
                    joined, n_bytes = [], 0
                if not joined:
                    start = seconds
                joined.append(body)
                n_bytes += len(body)
            if joined:
                yield start, self._samples(joined)

    def _samples(self, parts: list[memoryview]) -> npt.NDArray[np.float32]:
        content = b"".join(parts)
        whole = len(content) - len(content) % (4 * self.n_channels)
        samples = np.frombuffer(content, "<f4", whole // 4).astype(np.float32, copy=False)
        return samples.reshape(-1, self.n_channels)

    def _top_elements(self) -> Iterator[tuple[int, bytes]]:
        """The elements of the segment, and those around it."""
        while True:
            first = self._pipe.read(1)
            if not first:
                return
            name = int.from_bytes(first + self._pipe.read(_n_bytes(first[0]) - 1), "big")
            size = self._size()
            if name == _SEGMENT:  # of unknown size, as ffmpeg cannot seek back
                continue
            content = self._pipe.read(size)
            is_cut = len(content) < size
            if name == _CLUSTER or not is_cut:
                yield name, content
            if is_cut:
                return

    def _size(self) -> int:
        first = self._pipe.read(1)
        if not first:
            return 0
        value, _ = _number(first + self._pipe.read(_n_bytes(first[0]) - 1), 0)
        return value


def _blocks(cluster: bytes) -> Iterator[tuple[float, memoryview]]:
    """Start in seconds, and contents, of the blocks of a cluster."""
    view = memoryview(cluster)
    cluster_ms = 0
    for field, start, end in _leaves(cluster):
        if field == _TIMESTAMP:
            cluster_ms = int.from_bytes(cluster[start:end], "big")
        elif field in (_SIMPLE_BLOCK, _BLOCK):
            header = start + _n_bytes(cluster[start])  # after the number of the track
            relative_ms, _ = _BLOCK_HEADER.unpack_from(cluster, header)
            yield (cluster_ms + relative_ms) / 1000, view[header + _BLOCK_HEADER.size : end]


def _leaves(content: bytes) -> Iterator[tuple[int, int, int]]:
    """The elements without children inside an element, in order: id, start and end."""
    place = 0
    while place < len(content):
        after = place + _n_bytes(content[place])
        name = int.from_bytes(content[place:after], "big")
        size, place = _number(content, after)
        if name not in _PARENTS:
            if place + size > len(content):  # cut
                return
            yield name, place, place + size
            place += size


def _number(content: bytes, place: int) -> tuple[int, int]:
    """A number of variable length at a place, and the place after it."""
    length = _n_bytes(content[place]) if place < len(content) else 1
    value = int.from_bytes(content[place : place + length], "big")
    return value & _MASKS[length], place + length


def _n_bytes(first: int) -> int:
    """Length of a number of variable length by its first byte."""
    return 9 - first.bit_length() if first else 1
