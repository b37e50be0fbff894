"""Metrics of multi-label classification; each takes scores and labels and returns a number.

    from classifier import metrics

    metrics.mean_average_precision(scores, labels)    # float [n_clips, n_classes], 0 or 1 alike
    metrics.evaluate(scores, labels)                  # all of them, by name

`ranks` and `arrays` hold what the metrics share.
"""

from classifier.metrics.calibration import N_BINS, Reliability, calibration_error, reliability
from classifier.metrics.tagging import (
    TOP_K,
    PerClass,
    d_prime,
    d_prime_of,
    evaluate,
    gap,
    hit_at_1,
    lwlrap,
    mean_auc,
    mean_average_precision,
    per_class,
    perr,
    truncated_mean_average_precision,
)

__all__ = [
    "N_BINS",
    "TOP_K",
    "PerClass",
    "Reliability",
    "calibration_error",
    "d_prime",
    "d_prime_of",
    "evaluate",
    "gap",
    "hit_at_1",
    "lwlrap",
    "mean_auc",
    "mean_average_precision",
    "per_class",
    "perr",
    "reliability",
    "truncated_mean_average_precision",
]
