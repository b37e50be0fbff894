"""TFRecord files, whole and damaged, with the clips that they hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tests.support.records import audioset_record
from vggish.frames.tfrecord import frame_record


@dataclass(frozen=True)
class FuzzedRecords:
    """The bytes of a file, the clips before the damage, and whether there is damage.

    `is_short` says that the file ends after a record, so that nobody can know that it is cut.
    """

    data: bytes
    clip_ids: tuple[str, ...]
    is_damaged: bool
    is_short: bool = False


def fuzzed_records(seed: int) -> FuzzedRecords:
    """The file of a seed."""
    rng = np.random.default_rng(seed)
    clip_ids = tuple(f"clip{seed}-{number}" for number in range(int(rng.integers(1, 6))))
    records = [
        frame_record(audioset_record(clip_id, int(rng.integers(1, 4)), seed))
        for clip_id in clip_ids
    ]
    data = b"".join(records)
    if rng.integers(4) == 0:
        return FuzzedRecords(data, clip_ids, is_damaged=False)
    damaged = bytearray(data)
    place = int(rng.integers(len(data)))
    kind = int(rng.integers(4))
    match kind:
        case 0:
            del damaged[place:]
        case 1:
            damaged[place] ^= int(rng.integers(1, 256))
        case 2:
            damaged[place:place] = rng.bytes(int(rng.integers(1, 40)))
        case _:
            del damaged[place : place + int(rng.integers(1, 40))]
    whole = 0
    for number, record in enumerate(records, 1):
        start, whole = whole, whole + len(record)
        if whole > place:
            is_short = kind == 0 and place == start
            return FuzzedRecords(bytes(damaged), clip_ids[: number - 1], True, is_short)
    raise AssertionError
