"""Time to import audiotag and to print its help, beside an interpreter that does nothing.

make bench-startup` runs it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.console import Table, print_table, run_benchmark

# Seconds that each program may take.
PROGRAMS: dict[str, tuple[tuple[str, ...], float | None]] = {
    "python -c pass": (("-c", "pass"), None),
    "import audiotag": (("-c", "import audiotag"), 0.10),
    "audiotag --help": (("-m", "cli", "--help"), 0.15),
}


def measure(n_rounds: int) -> dict[str, float]:
    """Shortest time of each program in seconds, with the programs taking turns."""
    seconds: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(n_rounds):
        for name, (arguments, _) in PROGRAMS.items():
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
            seconds[name].append(time.perf_counter() - started)
    return {name: min(values) for name, values in seconds.items()}


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="run each program three times")
    n_rounds = 3 if parser.parse_args().quick else 21
    rows = []
    for name, seconds in measure(n_rounds).items():
        limit = PROGRAMS[name][1]
        target = "" if limit is None else f"{1000 * limit:.0f}"
        met = "" if limit is None else "met" if seconds <= limit else "not met"
        rows.append((name, f"{1000 * seconds:.0f}", target, met))
    note = f"Python {sys.version.split()[0]}, best of {n_rounds} runs"
    print(note)
    print_table(Table("Startup", note, ("program", "ms", "target", ""), rows))


if __name__ == "__main__":
    run_benchmark(main)
