"""Report of an evaluation as JSON, table, CSV and plot."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from classifier.labels import Labels
from classifier.metrics.calibration import reliability
from classifier.metrics.tagging import PerClass
from classifier.reports.figures import BLUE, ORANGE, RED, new_figure, plot_named_bars, save_figure
from classifier.tags.types import Scores
from vggish.common.csv_table import csv_text
from vggish.common.wording import score, shortened

MEANINGS = {
    "mAP": "average precision, mean over classes",
    "mAUC": "area under the ROC curve, mean over classes; chance is 0.5",
    "d_prime": "mAUC as the separation of two normal distributions; chance is 0",
    "lwlrap": "label-weighted label-ranking average precision",
    "GAP": "average precision over the 20 highest scores of all clips, pooled",
    "Hit@1": "share of clips whose highest score is one of their labels",
    "PERR": "precision at the number of labels of each clip",
    "mAP@20": "mAP of only the 20 highest scores of each clip",
    "ECE": "expected calibration error",
    "n_clips": "clips with labels",
    "n_classes": "classes with at least one clip",
    "n_positives": "labels of these clips",
}

N_NAMED = 10  # best and worst classes to list
N_NAMEABLE = 40  # a plot has room for the names of this many classes
Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Metrics of a bundle on labelled clips.

    Attributes:
        metrics: metrics by name, see `metrics.evaluate`.
        per_class: average precision, AUC and best threshold of each class.
        labels: the classes.
        scores: scores of the labelled clips, float32 [n, C].
        truth: labels of these clips, bool [n, C].
        embedders: number of clips by embedder, "" if the record does not name one.
        n_unlabelled: number of clips without labels, which were skipped.
        seconds: time that the evaluation took.
    """

    metrics: Mapping[str, float]
    per_class: PerClass
    labels: Labels
    scores: Scores
    truth: Truth
    embedders: Mapping[str, int]
    n_unlabelled: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Convert to a JSON object; undefined and infinite metrics become None."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.metrics.items()}
        return {
            **finite,
            "n_unlabelled": self.n_unlabelled,
            "embedders": dict(self.embedders),
            "seconds": round(self.seconds, 3),
        }

    def as_table(self) -> str:
        """Format as text: the metrics with their meanings, and the best and worst classes."""
        rows = [
            (name, f"{value:,}" if name.startswith("n_") else score(value), MEANINGS.get(name, ""))
            for name, value in self.metrics.items()
        ]
        if self.n_unlabelled:
            rows.append(("n_unlabelled", f"{self.n_unlabelled}", "clips without labels, skipped"))
        lines = [f"{name:<12} {value:>8}  {meaning}".rstrip() for name, value, meaning in rows]
        ranked = self.ranked_classes()
        parts = {"best classes": ranked[:N_NAMED], "worst classes": ranked[-N_NAMED:]}
        if len(ranked) <= 2 * N_NAMED:
            parts = {"classes, best first": ranked}
        for title, classes in parts.items():
            lines += ["", f"{title:<40} {'AP':>6} {'clips':>6}"]
            for index in classes:
                name = shortened(self.labels.names[index], 40)
                ap, n_clips = self.per_class.ap[index], self.per_class.n_positives[index]
                lines.append(f"{name:<40} {ap:6.3f} {n_clips:6d}")
        return "\n".join(lines)

    def ranked_classes(self) -> list[int]:
        """Indices of the classes with clips, by descending average precision."""
        order = np.argsort(-self.per_class.ap, kind="stable")
        return [int(index) for index in order if self.per_class.n_positives[index]]

    def write_per_class_csv(self, file: IO[bytes]) -> None:
        """Write a row for each class: index, mid, display_name, clips, and its metrics.

        The threshold is the one with the highest F1 on these clips. Undefined values are empty.
        """
        per_class = self.per_class
        columns = {
            "clips": per_class.n_positives,
            "AP": per_class.ap,
            "AUC": per_class.auc,
            "d_prime": per_class.d_prime,
            "threshold": per_class.threshold,
            "F1": per_class.f1,
        }
        cells = [
            ["" if math.isnan(value) else f"{value:.9g}" for value in column.tolist()]
            for column in columns.values()
        ]
        header = ("index", "mid", "display_name", *columns)
        names = self.labels.names
        rows = zip(range(len(names)), self.labels.mids, names, *cells, strict=True)
        file.write(csv_text(header, *rows).encode())

    def plot(self, path: str | Path) -> None:
        """Plot average precision by class, precision against recall, and calibration.

        Path and errors are those of `new_figure` and `save_figure`.
        """
        figure = new_figure(path, figsize=(15, 10))
        grid = figure.add_gridspec(2, 6, height_ratios=[1, 1.25])
        _plot_all_classes(figure.add_subplot(grid[0, :]), self)
        middle, right = grid[1, :3], grid[1, 3:]
        if len(self.ranked_classes()) > N_NAMEABLE:
            _plot_best_and_worst(figure.add_subplot(grid[1, :2]), self)
            middle, right = grid[1, 2:4], grid[1, 4:]
        _plot_precision_recall(figure.add_subplot(middle), self)
        _plot_calibration(figure.add_subplot(right), self)
        save_figure(figure, path)


def _names_and_clips(found: Evaluation, classes: Sequence[int]) -> list[str]:
    names, n_clips = found.labels.names, found.per_class.n_positives
    return [f"{shortened(names[index], 30)} ({n_clips[index]})" for index in classes]


def _plot_all_classes(axes: Any, found: Evaluation) -> None:
    ranked = found.ranked_classes()
    places = np.arange(1, len(ranked) + 1)
    has_names = len(ranked) <= N_NAMEABLE
    axes.bar(places, found.per_class.ap[ranked], width=0.8 if has_names else 1.0, color=BLUE)
    mean = found.metrics["mAP"]
    axes.axhline(mean, color=ORANGE, linestyle="--", label=f"mAP {mean:.3f}")
    n_without = len(found.labels) - len(ranked)
    skipped = f"; {n_without} classes without clips are not shown" if n_without else ""
    axes.set_title(f"{len(ranked)} classes, {len(found.scores):,} clips{skipped}")
    axes.set(ylabel="average precision", ylim=(0, 1.02), xlim=(0.4, len(ranked) + 0.6))
    if has_names:
        style = {"rotation": 35, "ha": "right", "rotation_mode": "anchor", "fontsize": 9}
        names = _names_and_clips(found, ranked)
        axes.set_xticks(places, labels=names, parse_math=False, **style)
    else:
        axes.set_xlabel("rank of the class")
    axes.legend(frameon=False, loc="upper right")


def _plot_best_and_worst(axes: Any, found: Evaluation) -> None:
    ranked = found.ranked_classes()
    classes = ranked[:N_NAMED] + ranked[-N_NAMED:]
    plot_named_bars(
        axes,
        _names_and_clips(found, classes),
        found.per_class.ap[classes].tolist(),
        [BLUE] * N_NAMED + [RED] * N_NAMED,
        "{:.2f}",
        # With a gap between the best and the worst.
        places=[*range(N_NAMED), *range(N_NAMED + 1, 2 * N_NAMED + 1)],
    )
    axes.set_title(f"{N_NAMED} best and {N_NAMED} worst classes (clips)")
    axes.set(xlabel="average precision", xlim=(0, 1.12), xticks=np.linspace(0, 1, 6))


def _plot_precision_recall(axes: Any, found: Evaluation) -> None:
    recall = np.linspace(0, 1, 201, dtype=np.float64)
    micro = interpolated_precision(found.scores.ravel(), found.truth.ravel(), recall)
    per_class = [
        interpolated_precision(found.scores[:, index], found.truth[:, index], recall)
        for index in found.ranked_classes()
    ]
    axes.plot(recall, micro, color=BLUE, label="micro: all scores pooled")
    axes.plot(recall, np.mean(per_class, axis=0), color=ORANGE, label="macro: mean over classes")
    axes.set(title="precision and recall (interpolated)", xlabel="recall", ylabel="precision")
    _format_unit_square(axes)


def _plot_calibration(axes: Any, found: Evaluation) -> None:
    curve = reliability(found.scores, found.truth)
    filled = curve.n_pairs > 0
    counts = axes.twinx()
    counts.bar(
        curve.edges[:-1], curve.n_pairs, width=np.diff(curve.edges), align="edge", color="0.88"
    )
    # A log scale with room above the bars, for the curve.
    counts.set_yscale("log")
    counts.set_ylim(0.5, float(curve.n_pairs.max()) ** 3 + 10)
    counts.set_yticks([])
    axes.set_zorder(counts.get_zorder() + 1)
    axes.patch.set_visible(False)
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect calibration")
    label = f"measured, ECE {curve.error:.4f}"
    scores, shares = curve.mean_score[filled], curve.share_positive[filled]
    axes.plot(scores, shares, marker="o", color=BLUE, label=label)
    axes.set(title="calibration; grey: counts on a log scale", xlabel="score")
    axes.set_ylabel("share of positives")
    _format_unit_square(axes)


def _format_unit_square(axes: Any) -> None:
    axes.set(xlim=(0, 1), ylim=(0, 1.02))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)


def interpolated_precision(
    scores: Scores, truth: Truth, recall: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Highest precision at each recall or a higher one, for scores and truth [n]."""
    hits = np.sort(scores[truth])[::-1]
    # Hits with equal scores count together.
    n_hits = len(hits) - np.searchsorted(hits[::-1], hits, "left")
    n_listed = len(scores) - np.searchsorted(np.sort(scores), hits, "left")
    best = np.maximum.accumulate((n_hits / n_listed)[::-1])[::-1]
    # A recall of 0.3 needs three of ten hits; 1e-9 keeps rounding from making it four.
    needed = np.ceil(recall * len(hits) - 1e-9).astype(np.int64)
    at_recall: npt.NDArray[np.float64] = best[np.maximum(needed - 1, 0)]
    return at_recall
