"""Decode many fuzzed files, and print what came out: `make fuzz`.

    python -m tests.support.fuzzing --files 1000000 --seed 0 --jobs 2
    python -m tests.support.fuzzing --reproduce 4711 -o 4711.bin

The exit status is 1 if a file crashed the decoder or lost audio silently.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from tests.support.fuzzing.check import MAX_SECONDS, OUTCOMES, Tally, check, check_shard
from tests.support.fuzzing.faults import FAULTS, fuzzed

_SHARD = 2_000


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.support.fuzzing", description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000, help="number of files")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="number of processes")
    parser.add_argument("--seconds", type=float, help="stop after this time")
    parser.add_argument("--reproduce", type=int, metavar="SEED", help="decode one file")
    parser.add_argument("-o", "--out", type=Path, help="where to write the file of --reproduce")
    arguments = parser.parse_args()
    if arguments.reproduce is not None:
        return _reproduce(arguments.reproduce, arguments.out)
    started = time.monotonic()
    tally = _run(arguments.seed, arguments.files, arguments.jobs, arguments.seconds)
    _print_table(tally, time.monotonic() - started)
    return 1 if tally.wrong else 0


def _run(seed: int, n_files: int, n_jobs: int, seconds: float | None) -> Tally:
    tally, started = Tally(), time.monotonic()
    shards = [
        range(start, min(start + _SHARD, seed + n_files))
        for start in range(seed, seed + n_files, _SHARD)
    ]
    with ProcessPoolExecutor(n_jobs, get_context("spawn")) as pool:
        futures = [pool.submit(check_shard, shard) for shard in shards]
        for future in as_completed(futures):
            if not future.cancelled():
                found = future.result()
                tally.add(found)
                for line in found.wrong:
                    print(line, file=sys.stderr)
            if seconds is not None and time.monotonic() - started > seconds:
                for waiting in futures:
                    waiting.cancel()
                break
    return tally


def _reproduce(seed: int, out: Path | None) -> int:
    file = fuzzed(seed)
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "fuzzed") if out is None else out
        path.write_bytes(file.data)
        outcome, detail = check(file, path)
    print(f"{file.container}, {file.fault}, {len(file.data):,} bytes: {outcome} {detail}")
    return 1 if outcome == "wrong" else 0


def _print_table(tally: Tally, seconds: float) -> None:
    print(f"| fault | files | {' | '.join(OUTCOMES)} |")
    print("|---" * (2 + len(OUTCOMES)) + "|")
    for fault in FAULTS:
        counts = [
            sum(n for (_, name, found), n in tally.counts.items() if (name, found) == (fault, kind))
            for kind in OUTCOMES
        ]
        print(f"| {fault} | {sum(counts):,} | {' | '.join(f'{n:,}' for n in counts)} |")
    print()
    print(
        f"{tally.n_files:,} files in {seconds:,.0f} s; {len(tally.wrong):,} wrong; slowest file "
        f"{tally.slowest_seconds:.2f} s (at most {MAX_SECONDS:g} s are allowed); peak memory of a "
        f"process {tally.peak_bytes / 2**20:,.0f} MiB"
    )
    for line in tally.wrong[:50]:
        print(line)


if __name__ == "__main__":
    sys.exit(main())
