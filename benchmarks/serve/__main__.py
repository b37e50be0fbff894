"""Run the benchmark: `python -m benchmarks.serve`."""

from benchmarks.console import run_benchmark
from benchmarks.serve.serve import main

run_benchmark(main)
