"""The tagger without a service around it, in a process of its own: the limit of the service.

    python -m benchmarks.serve.direct_tagger EMBEDDER PRECISION FILE ...

The precision "" is the usual one.

A line of JSON in, a line of JSON out: {"n_tags": 12} gives (index, score) of each file's best
tags, {"n_threads": 2, "seconds": 3} the clips/s of so many threads that share one tagger. Between
lines it waits, and takes nothing of the processor.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from itertools import count
from typing import Any, cast

from classifier import Tagger

WARM_UP_SECONDS = 0.5


def best_tags(tagger: Tagger, paths: list[str], n_tags: int) -> list[list[tuple[int, float]]]:
    """(index, score) of the best tags of each file."""
    tagged = (tagger.tag(path, top_k=n_tags).tags for path in paths)
    return [[(tag.index, tag.score) for tag in tags] for tags in tagged]


def clips_per_second(tagger: Tagger, paths: list[str], n_threads: int, seconds: float) -> float:
    """Of threads that take one file after the other, from the first to the last answer."""
    turn = count()
    done = [0] * n_threads
    end_at = time.perf_counter() + seconds

    def work(thread: int) -> None:
        while time.perf_counter() < end_at:
            tagger.tag(paths[next(turn) % len(paths)])
            done[thread] += 1

    threads = [threading.Thread(target=work, args=(thread,)) for thread in range(n_threads)]
    started = time.perf_counter()
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return sum(done) / (time.perf_counter() - started)


def main() -> None:
    """Answer line after line."""
    embedder, precision, *paths = sys.argv[1:]
    tagger = Tagger.load(embedder=cast(Any, embedder), precision=cast(Any, precision or None))
    for line in sys.stdin:
        asked = json.loads(line)
        found: Any
        if "n_tags" in asked:
            found = best_tags(tagger, paths, asked["n_tags"])
        else:
            clips_per_second(tagger, paths, asked["n_threads"], WARM_UP_SECONDS)
            found = clips_per_second(tagger, paths, asked["n_threads"], asked["seconds"])
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
