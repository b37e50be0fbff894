"""What an evaluation measured: as JSON, a table, a CSV of the classes, a plot."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from classifier.labels import Labels
from classifier.metrics.reliability import reliability
from classifier.metrics.tagging import PerClass
from classifier.reports.figures import BLUE, ORANGE, RED, new_figure, save_figure
from classifier.tags.types import Scores
from vggish.common.wording import score, shortened

MEANINGS = {
    "mAP": "average precision, mean over classes",
    "mAUC": "area under the ROC curve, mean over classes; chance is 0.5",
    "d_prime": "the same as a distance of two normal distributions; chance is 0",
    "lwlrap": "precision of a clip's ranking down to each of its labels",
    "GAP": "average precision of the 20 best scores of all clips in one list",
    "Hit@1": "share of clips whose best score is one of their labels",
    "PERR": "precision of as many best scores as a clip has labels",
    "mAP@20": "mAP when only the 20 best scores of each clip count",
    "ECE": "calibration error: how far scores are from how often they are right",
    "n_clips": "clips with labels",
    "n_classes": "classes with a clip",
    "n_positives": "labels of these clips",
}

# So many of the best and of the worst classes are named.
N_NAMED = 10

# A plot of not more classes has room for all names.
N_NAMEABLE = 40

Truth = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured, and on what.

    Attributes:
        metrics: by name, see `metrics.evaluate`.
        per_class: average precision, AUC, best threshold of each class.
        labels: the classes.
        scores: of the clips with labels, float32 [n, C].
        truth: what they should say, bool [n, C].
        embedders: number of clips by what made their frames; "" where the record does not say.
        n_unlabelled: clips left out because they have no labels.
        seconds: it took.
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
        """The metrics and counts, ready for strict JSON: what is no finite number is None."""
        finite = {k: v if math.isfinite(v) else None for k, v in self.metrics.items()}
        return {
            **finite,
            "n_unlabelled": self.n_unlabelled,
            "embedders": dict(self.embedders),
            "seconds": round(self.seconds, 3),
        }

    def as_table(self) -> str:
        """Lines for people: each metric with its meaning, the best and the worst classes."""
        lines = [
            f"{name:<12} {_shown(name, value):>8}  {MEANINGS.get(name, '')}".rstrip()
            for name, value in self.metrics.items()
        ]
        if self.n_unlabelled:
            lines.append(f"{'n_unlabelled':<12} {self.n_unlabelled:>8}  clips left out")
        ranked = self.ranked_classes()
        parts = {"best classes": ranked[:N_NAMED], "worst classes": ranked[-N_NAMED:]}
        if len(ranked) <= 2 * N_NAMED:
            parts = {"classes, the best first": ranked}
        for title, classes in parts.items():
            lines += ["", f"{title:<40} {'AP':>6} {'clips':>6}"]
            lines += [self._class_line(index) for index in classes]
        return "\n".join(lines)

    def ranked_classes(self) -> list[int]:
        """Classes with a clip, the one with the highest average precision first."""
        order = np.argsort(-self.per_class.ap, kind="stable")
        return [int(index) for index in order if self.per_class.n_positives[index]]

    def write_per_class_csv(self, file: IO[bytes]) -> None:
        """A row a class: index, mid, display_name, clips, AP, AUC, d_prime, threshold, F1.

        The threshold is that of the best F1 on these clips. What is not defined is empty.
        """
        columns = {
            "clips": self.per_class.n_positives,
            "AP": self.per_class.ap,
            "AUC": self.per_class.auc,
            "d_prime": self.per_class.d_prime,
            "threshold": self.per_class.threshold,
            "F1": self.per_class.f1,
        }
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "mid", "display_name", *columns])
        numbers = zip(*(column.tolist() for column in columns.values()), strict=True)
        each = zip(self.labels.mids, self.labels.names, numbers, strict=True)
        for index, (mid, name, row) in enumerate(each):
            values = ["" if math.isnan(value) else f"{value:.9g}" for value in row]
            writer.writerow([index, mid, name, *values])
        file.write(text.getvalue().encode())

    def plot(self, path: str | Path) -> None:
        """Draw average precision by class, precision against recall, and calibration.

        Args:
            path: of a PNG, SVG or PDF; its suffix says which.

        Raises:
            OptionError: matplotlib draws no such files.
            FrameFileError: the file cannot be written.
            MissingPackageError: matplotlib is not installed.
        """
        figure = new_figure(path, figsize=(15, 10))
        grid = figure.add_gridspec(2, 6, height_ratios=[1, 1.25])
        has_many = len(self.ranked_classes()) > N_NAMEABLE
        self._plot_all_classes(figure.add_subplot(grid[0, :]))
        if has_many:
            self._plot_best_and_worst(figure.add_subplot(grid[1, :2]))
        middle, right = (grid[1, 2:4], grid[1, 4:]) if has_many else (grid[1, :3], grid[1, 3:])
        self._plot_precision_recall(figure.add_subplot(middle))
        self._plot_calibration(figure.add_subplot(right))
        save_figure(figure, path)

    def _class_line(self, index: int) -> str:
        name = shortened(self.labels.names[index], 40)
        return f"{name:<40} {self.per_class.ap[index]:6.3f} {self.per_class.n_positives[index]:6d}"

    def _plot_all_classes(self, axes: Any) -> None:
        ranked = self.ranked_classes()
        places = np.arange(1, len(ranked) + 1)
        has_many = len(ranked) > N_NAMEABLE
        ap = self.per_class.ap[ranked]
        axes.bar(places, ap, width=1.0 if has_many else 0.8, color=BLUE)
        mean = self.metrics["mAP"]
        axes.axhline(mean, color=ORANGE, linestyle="--", label=f"mAP {mean:.3f}")
        n_without = len(self.labels) - len(ranked)
        left_out = f"; {n_without} without a clip are left out" if n_without else ""
        axes.set_title(f"{len(ranked)} classes, {len(self.scores):,} clips{left_out}")
        axes.set(ylabel="average precision", ylim=(0, 1.02), xlim=(0.4, len(ranked) + 0.6))
        if has_many:
            axes.set_xlabel("rank of the class")
        else:
            names = [self._name_and_clips(index) for index in ranked]
            style = {"rotation": 35, "ha": "right", "rotation_mode": "anchor", "fontsize": 9}
            axes.set_xticks(places, labels=names, parse_math=False, **style)
        axes.legend(frameon=False, loc="upper right")

    def _plot_best_and_worst(self, axes: Any) -> None:
        ranked = self.ranked_classes()
        best, worst = ranked[:N_NAMED], ranked[-N_NAMED:]
        # A gap parts the best from the worst.
        places = [*range(N_NAMED), *range(N_NAMED + 1, 2 * N_NAMED + 1)]
        ap = self.per_class.ap[best + worst]
        axes.barh(places, ap, color=[BLUE] * N_NAMED + [RED] * N_NAMED)
        names = [self._name_and_clips(index) for index in best + worst]
        axes.set_yticks(places, labels=names, fontsize=9, parse_math=False)
        axes.invert_yaxis()
        for place, value in zip(places, ap, strict=True):
            axes.text(value + 0.01, place, f"{value:.2f}", va="center", fontsize=8, color="0.3")
        axes.set_title(f"the {N_NAMED} best and the {N_NAMED} worst classes (clips)")
        axes.set(xlabel="average precision", xlim=(0, 1.12), xticks=np.linspace(0, 1, 6))

    def _name_and_clips(self, index: int) -> str:
        return f"{shortened(self.labels.names[index], 30)} ({self.per_class.n_positives[index]})"

    def _plot_precision_recall(self, axes: Any) -> None:
        recall = np.linspace(0, 1, 201)
        micro = _interpolated_precision(self.scores.ravel(), self.truth.ravel(), recall)
        macro = np.mean(
            [
                _interpolated_precision(self.scores[:, index], self.truth[:, index], recall)
                for index in self.ranked_classes()
            ],
            axis=0,
        )
        axes.plot(recall, micro, color=BLUE, label="micro: all scores in one list")
        axes.plot(recall, macro, color=ORANGE, label="macro: mean over classes")
        axes.set_title("precision and recall (interpolated)")
        axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)

    def _plot_calibration(self, axes: Any) -> None:
        curve = reliability(self.scores, self.truth)
        filled = curve.n_pairs > 0
        counts = axes.twinx()
        counts.bar(
            curve.edges[:-1],
            curve.n_pairs,
            width=np.diff(curve.edges),
            align="edge",
            color="0.88",
        )
        # On a log scale, and low enough to leave the room to the curve.
        counts.set_yscale("log")
        counts.set_ylim(0.5, float(curve.n_pairs.max()) ** 3 + 10)
        counts.set_yticks([])
        axes.set_zorder(counts.get_zorder() + 1)
        axes.patch.set_visible(False)
        axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="perfect")
        axes.plot(
            curve.mean_score[filled],
            curve.share_positive[filled],
            marker="o",
            color=BLUE,
            label=f"measured, ECE {curve.error:.4f}",
        )
        axes.set_title("calibration; grey: counts, log scale")
        axes.set(xlabel="score", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.25)
        axes.legend(frameon=False)


def _interpolated_precision(
    scores: Scores, truth: Truth, recall: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The best precision at each recall or a higher one, of one list: scores and truth [n]."""
    hits = np.sort(scores[truth])[::-1]
    # Hits of one score stand or fall together.
    n_hits = len(hits) - np.searchsorted(hits[::-1], hits, "left")
    n_listed = len(scores) - np.searchsorted(np.sort(scores), hits, "left")
    best = np.maximum.accumulate((n_hits / n_listed)[::-1])[::-1]
    # A recall of 0.3 of ten hits is the third; 1e-9 keeps rounding from making it the fourth.
    needed = np.ceil(recall * len(hits) - 1e-9).astype(np.int64)
    return best[np.maximum(needed - 1, 0)]


def _shown(name: str, value: float) -> str:
    return f"{value:,}" if name.startswith("n_") else score(value)
