"""Metrics of multi-label classification; each takes scores and labels and returns a number.

    from classifier import metrics

    metrics.mean_average_precision(scores, labels)    # float [n_clips, n_classes], 0 or 1 alike
    metrics.evaluate(scores, labels)                  # all of them, by name

`ranks` and `arrays` hold what the metrics share.
"""

from classifier.metrics.calibration import (
    N_BINS as N_BINS,
    Reliability as Reliability,
    calibration_error as calibration_error,
    reliability as reliability,
)
from classifier.metrics.tagging import (
    TOP_K as TOP_K,
    PerClass as PerClass,
    d_prime as d_prime,
    d_prime_of as d_prime_of,
    evaluate as evaluate,
    gap as gap,
    hit_at_1 as hit_at_1,
    lwlrap as lwlrap,
    mean_auc as mean_auc,
    mean_average_precision as mean_average_precision,
    per_class as per_class,
    perr as perr,
    truncated_mean_average_precision as truncated_mean_average_precision,
)
