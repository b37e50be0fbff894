"""The tagger without HTTP, in its own process: the upper limit of the service's throughput.

    python -m benchmarks.serve.direct_tagger EMBEDDER PRECISION FILE ...

An empty precision ("") selects the default. The process reads one JSON request on each line of
standard input and answers with one line of JSON: {"n_tags": 12} returns the (index, score) pairs
of the best tags of each file, {"n_threads": 2, "seconds": 3} the clips/s of threads that share one
tagger. While it waits for a line, it uses no processor time.
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
    """Return the (index, score) pairs of the best tags of each file."""
    tagged = (tagger.tag(path, top_k=n_tags).tags for path in paths)
    return [[(tag.index, tag.score) for tag in tags] for tags in tagged]


def clips_per_second(tagger: Tagger, paths: list[str], n_threads: int, seconds: float) -> float:
    """Measure the throughput of threads that tag the files in turn."""
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
    """Answer one request after the other."""
    embedder, precision, *paths = sys.argv[1:]
    tagger = Tagger.load(embedder=cast(Any, embedder), precision=cast(Any, precision or None))
    for line in sys.stdin:
        request = json.loads(line)
        answer: Any
        if "n_tags" in request:
            answer = best_tags(tagger, paths, request["n_tags"])
        else:
            clips_per_second(tagger, paths, request["n_threads"], WARM_UP_SECONDS)
            answer = clips_per_second(tagger, paths, request["n_threads"], request["seconds"])
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
