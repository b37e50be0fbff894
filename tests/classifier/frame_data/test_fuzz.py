"""Thousands of whole and damaged TFRecord files: no clip is invented, and no damage is silent."""

from __future__ import annotations

from pathlib import Path

from classifier.frame_data.records import ReadReport, read_clips
from tests.support.fuzzing.records import fuzzed_records

N_FILES = 3_000


def test_damage_is_reported_and_the_other_clips_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tfrecord"
    n_damaged = n_after = 0
    for seed in range(N_FILES):
        file = fuzzed_records(seed)
        path.write_bytes(file.data)
        report = ReadReport()
        found = [clip.clip_id for clip in read_clips(path, max_bad=1_000, report=report)]
        before = file.clip_ids
        if not file.is_damaged:
            assert (tuple(found), report.bad) == (before, []), seed
            continue
        n_damaged += 1
        assert tuple(found[: len(before)]) == before, seed
        assert all(clip_id.startswith(f"clip{seed}-") for clip_id in found), seed
        assert len(set(found)) == len(found), seed
        assert report.bad or file.is_short, seed
        n_after += len(found) > len(before)
    assert n_damaged > N_FILES / 2
    assert n_after > N_FILES / 20
