"""The law of reading audio, on 20,000 generated files: no audio is lost silently.

`make fuzz` decodes many more.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.fuzzing.check import MAX_SECONDS, Tally, check, check_seeds
from tests.support.fuzzing.containers import CONTAINERS
from tests.support.fuzzing.faults import FAULTS, fuzzed

N_FILES, N_SHARDS = 20_000, 10
# Of a process that also runs other tests.
MAX_GROWTH_BYTES = 256 << 20


@pytest.mark.parametrize("shard", range(N_SHARDS))
def test_no_audio_is_lost_silently(tmp_path: Path, shard: int) -> None:
    n_files = N_FILES // N_SHARDS
    before = Tally()
    before.add(check_seeds(range(1), tmp_path))
    tally = check_seeds(range(shard * n_files, (shard + 1) * n_files), tmp_path)
    assert tally.wrong == []
    assert tally.n_files == n_files
    assert tally.slowest_seconds < MAX_SECONDS
    assert tally.peak_bytes - before.peak_bytes < MAX_GROWTH_BYTES
    kinds = {(container, fault) for container, fault, _ in tally.counts}
    possible = {(name, fault) for fault, (names, _) in FAULTS.items() for name in names}
    assert len(kinds) > 0.9 * len(possible)
    assert {container for container, _ in kinds} == set(CONTAINERS)


def test_same_seed_makes_the_same_file() -> None:
    for seed in range(100):
        assert fuzzed(seed).data == fuzzed(seed).data


def test_lost_audio_other_sounds_and_false_alarms_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "fuzzed"
    n_noticed = 0
    for seed in range(400):
        file = fuzzed(seed)
        if file.expects != "whole":
            continue
        path.write_bytes(file.data)
        assert check(file, path)[0] == "whole"
        part = file.parts[0]
        longer = replace(part, sound=part.sound.repeat(2))
        other = replace(part, sound=-part.sound)
        for wrong in (longer, other):
            assert check(replace(file, parts=(wrong,)), path)[0] == "wrong"
            n_noticed += 1
    assert n_noticed > 100


def test_warnings_about_whole_files_are_noticed(tmp_path: Path) -> None:
    seed = next(seed for seed in range(1_000) if fuzzed(seed).fault == "size too small")
    file = fuzzed(seed)
    path = tmp_path / "fuzzed"
    path.write_bytes(file.data)
    assert check(file, path)[0] == "warned"
    assert check(replace(file, expects="whole"), path)[0] == "wrong"
