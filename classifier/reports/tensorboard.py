"""Write learning curves for TensorBoard."""

from __future__ import annotations

import math
import os
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from classifier.reports.curves import EPOCH
from vggish.errors import RunError, unwritable_as
from vggish.frames.tfrecord import frame_record

if TYPE_CHECKING:
    from classifier.reports.curves import Row


class TensorBoardWriter:
    """Writes rows as TensorBoard's scalars; needs neither TensorFlow nor TensorBoard.

    Args:
        directory: where `tensorboard --logdir` finds them.
        resume_after: as `CurveWriter`'s; TensorBoard forgets what it has of later epochs.

    Source: tensorflow/core/util/event.proto and framework/summary.proto.

    Raises:
        RunError: the file cannot be written.
    """

    def __init__(self, directory: Path, *, resume_after: int = 0) -> None:
        # Files are read in the order of their names.
        self._path = directory / f"events.out.tfevents.{time.time_ns()}.{os.getpid()}.audiotag"
        session_start = _field(7, _field(1, 1))
        with unwritable_as(RunError, directory):
            directory.mkdir(parents=True, exist_ok=True)
        self._write(_field(3, b"brain.Event:2"))
        if resume_after:
            self._write(_field(2, resume_after + 1) + session_start)

    def append(self, row: Row) -> None:
        """Write the finite values of one row, at the step that is its epoch.

        Raises:
            RunError: the file cannot be written.
        """
        values = [
            _field(1, _field(1, name.encode()) + _field(2, float(value)))
            for name, value in row.items()
            if name != EPOCH and math.isfinite(value)
        ]
        self._write(_field(2, int(row[EPOCH])) + _field(5, b"".join(values)))

    def _write(self, event: bytes) -> None:
        wall_time = b"\x09" + struct.pack("<d", time.time())
        with unwritable_as(RunError, self._path), open(self._path, "ab", buffering=0) as file:
            file.write(frame_record(wall_time + event))


def _field(number: int, value: int | float | bytes) -> bytes:
    """A field of a protocol buffer message: a varint, a 32-bit float, or bytes."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    if isinstance(value, float):
        return _varint(number << 3 | 5) + struct.pack("<f", value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*data, value])
