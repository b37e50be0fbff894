"""Benchmark of the metrics: seconds for 20,000 clips of 527 classes compared with references.

    python -m benchmarks.metrics            print the table
    python -m benchmarks.metrics --quick    use a tenth of the clips

The reference is scikit-learn if it has the metric (skipped if it is not installed), and otherwise a
loop over clips that follows the metric's definition. Each reference runs once, each metric several
times, and the best run counts. The last column is the difference of the two values.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.console import run_benchmark
from benchmarks.embed import machine
from classifier import metrics

N_CLIPS, N_CLASSES = 20_000, 527
LABELS_PER_CLIP = 2.0
TARGET_SECONDS = 3.0
ROUNDS = 5

Metric = Callable[[Any, Any], Any]


# --- References --------------------------------------------------------------------------


def sklearn_map(scores: Any, labels: Any) -> float:
    from sklearn.metrics import average_precision_score

    classes = np.flatnonzero(labels.any(axis=0))
    return float(np.mean([average_precision_score(labels[:, c], scores[:, c]) for c in classes]))


def sklearn_auc(scores: Any, labels: Any) -> float:
    from sklearn.metrics import roc_auc_score

    classes = np.flatnonzero(labels.any(axis=0) & ~labels.all(axis=0))
    return float(np.mean([roc_auc_score(labels[:, c], scores[:, c]) for c in classes]))


def sklearn_lwlrap(scores: Any, labels: Any) -> float:
    from sklearn.metrics import label_ranking_average_precision_score

    tagged = labels.any(axis=1)
    return float(
        label_ranking_average_precision_score(
            labels[tagged], scores[tagged], sample_weight=labels[tagged].sum(axis=1)
        )
    )


def loop_hit_at_1(scores: Any, labels: Any) -> float:
    return float(np.mean([y[np.argmax(p)] for p, y in zip(scores, labels, strict=True)]))


def loop_perr(scores: Any, labels: Any) -> float:
    total = 0.0
    for p, y in zip(scores, labels, strict=True):
        if n := int(y.sum()):
            total += sum(bool(y[c]) for c in top(p, n) if p[c] > 0) / n
    return total / len(scores)


def loop_gap(scores: Any, labels: Any) -> float:
    pooled = [
        (p[c], y[c]) for p, y in zip(scores, labels, strict=True) for c in top(p, metrics.TOP_K)
    ]
    return sum_of_precisions(pooled) / int(labels.sum())


def loop_truncated_map(scores: Any, labels: Any) -> float:
    lists: list[list[Any]] = [[] for _ in range(scores.shape[1])]
    for p, y in zip(scores, labels, strict=True):
        for c in top(p, metrics.TOP_K):
            lists[c].append((p[c], y[c]))
    totals = labels.sum(axis=0)
    return float(np.mean([sum_of_precisions(lists[c]) / totals[c] for c in np.flatnonzero(totals)]))


def loop_calibration_error(scores: Any, labels: Any) -> float:
    p, y = scores.ravel(), labels.ravel()
    bins = np.minimum((p * metrics.N_BINS).astype(int), metrics.N_BINS - 1)
    masks = (bins == b for b in range(metrics.N_BINS))
    gaps = [abs(p[m].sum(dtype=float) - y[m].sum()) for m in masks]
    return float(sum(gaps) / len(p))


def top(scores: Any, k: int) -> Any:
    return np.argsort(-scores, kind="stable")[:k]


def sum_of_precisions(pairs: list[Any]) -> float:
    total, hits = 0.0, 0
    for rank, (_, hit) in enumerate(sorted(pairs, key=lambda pair: -pair[0]), 1):
        if hit:
            hits += 1
            total += hits / rank
    return total


# Each metric with its reference, and the kind of reference.
ROWS: tuple[tuple[Metric, Metric, str], ...] = (
    (metrics.mean_average_precision, sklearn_map, "scikit-learn"),
    (metrics.mean_auc, sklearn_auc, "scikit-learn"),
    (metrics.lwlrap, sklearn_lwlrap, "scikit-learn"),
    (metrics.hit_at_1, loop_hit_at_1, "loop"),
    (metrics.perr, loop_perr, "loop"),
    (metrics.gap, loop_gap, "loop"),
    (metrics.truncated_mean_average_precision, loop_truncated_map, "loop"),
    (metrics.calibration_error, loop_calibration_error, "loop over bins"),
)


# --- The run -----------------------------------------------------------------------------


def make_data(n_clips: int) -> tuple[Any, Any]:
    """Make scores like those of a trained head: near 0 mostly, and higher for labels."""
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.full(N_CLASSES, 0.3)) * LABELS_PER_CLIP
    labels = rng.random((n_clips, N_CLASSES)) < shares
    logits = rng.normal(size=labels.shape) + np.log(shares + 1e-4) + 3 * labels
    return (1 / (1 + np.exp(-logits))).astype(np.float32), labels


def seconds(work: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Return the best time of several rounds, and the result."""
    best, result = math.inf, None
    for _ in range(rounds):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def run(n_clips: int) -> None:
    """Measure all metrics and print a row for each."""
    scores, labels = make_data(n_clips)
    loads = ", ".join(f"{load:.1f}" for load in os.getloadavg()) if os.name == "posix" else "?"
    print(f"{machine()}, load {loads}")
    print(f"{n_clips:,} clips, {N_CLASSES} classes, {int(labels.sum()):,} positives\n")
    print(
        f"{'metric':<34}{'seconds':>9}{'reference':>11}{'ratio':>8}  kind of reference, difference"
    )
    for metric, reference, kind in ROWS:
        ours, value = seconds(lambda metric=metric: metric(scores, labels), ROUNDS)
        start = f"{metric.__name__:<34}{ours:>9.3f}"
        try:
            theirs, expected = seconds(lambda by=reference: by(scores, labels), 1)
        except ImportError:
            print(f"{start}{'skipped':>11}{'':>8}  scikit-learn is not installed", flush=True)
            continue
        note = f"{kind}, {abs(value - expected):.0e}"
        print(f"{start}{theirs:>11.3f}{theirs / ours:>7.0f}x  {note}", flush=True)
    for name, work in (
        ("per_class", lambda: metrics.per_class(scores, labels)),
        ("evaluate", lambda: metrics.evaluate(scores, labels)),
    ):
        print(f"{name:<34}{seconds(work, ROUNDS)[0]:>9.3f}", flush=True)
    both, _ = seconds(
        lambda: (metrics.evaluate(scores, labels), metrics.per_class(scores, labels)), ROUNDS
    )
    verdict = "yes" if both <= TARGET_SECONDS else "no"
    print(f"{'evaluate and per_class':<34}{both:>9.3f}  target <= {TARGET_SECONDS:g} s: {verdict}")


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="use a tenth of the clips")
    run(N_CLIPS // 10 if parser.parse_args().quick else N_CLIPS)


if __name__ == "__main__":
    run_benchmark(main)
