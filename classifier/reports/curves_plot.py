"""Plot the learning curves of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from classifier.reports.curves import EPOCH, Row, best_epoch
from classifier.reports.figures import BLUE, GREY, ORANGE, new_figure, save_figure
from vggish.errors import RunError

# Longer curves have no markers, which would overlap.
_MAX_MARKERS = 40


class _Panel(NamedTuple):
    """A part of the figure; curves are column -> (label, colour)."""

    title: str
    height: float
    curves: Mapping[str, tuple[str, str]]


_PANELS = (
    _Panel("loss", 3.4, {"loss": ("training", BLUE), "val_loss": ("validation", ORANGE)}),
    _Panel("validation mAP", 3.4, {"mAP": ("validation", ORANGE)}),
    _Panel("learning rate", 1.5, {"learning_rate": ("learning rate", GREY)}),
)


def plot_curves(rows: Sequence[Row], path: Path) -> None:
    """Plot losses, validation mAP with its best epoch, and the learning rate against the epoch.

    Columns that are missing or empty are not drawn. Raises a `RunError` if there is nothing to
    draw.
    """
    panels = [panel for panel in _PANELS if any(_points(rows, name) for name in panel.curves)]
    if not panels:
        raise RunError(f"cannot draw {path}: no epoch has a loss yet")
    heights = [panel.height for panel in panels]
    figure = new_figure(path, purpose="a plot of learning curves", figsize=(9, sum(heights)))
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.08)
    grid = figure.subplots(len(panels), sharex=True, height_ratios=heights, squeeze=False)
    for panel, axes in zip(panels, grid[:, 0], strict=True):
        _draw(axes, panel, rows)
    epochs = [row[EPOCH] for row in rows]
    margin = max(0.5, 0.02 * (max(epochs) - min(epochs)))
    axes.set_xlim(min(epochs) - margin, max(epochs) + margin)
    axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    axes.set_xlabel("epoch")
    figure.align_ylabels()
    save_figure(figure, path, RunError)


def _points(rows: Sequence[Row], column: str) -> list[tuple[float, float]]:
    """Epochs with their values, where these are finite."""
    return [(row[EPOCH], row[column]) for row in rows if math.isfinite(row.get(column, math.nan))]


def _draw(axes: Any, panel: _Panel, rows: Sequence[Row]) -> None:
    for column, (label, colour) in panel.curves.items():
        points = _points(rows, column)
        if points:
            marker = "o" if len(points) <= _MAX_MARKERS else None
            axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, ms=4)
    axes.set_ylabel(panel.title)
    axes.grid(alpha=0.25)
    best = best_epoch(rows)
    if "learning_rate" in panel.curves:
        axes.set_ylim(bottom=0)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3), useMathText=True)
    elif best is not None:
        axes.axvline(best[EPOCH], color=GREY, linewidth=1, linestyle=":", zorder=1)
    if best is not None and "mAP" in panel.curves:
        _mark_best(axes, best[EPOCH], best["mAP"], is_late=best[EPOCH] > rows[-1][EPOCH] / 2)
    if len(panel.curves) > 1:
        axes.legend(frameon=False)


def _mark_best(axes: Any, epoch: float, score: float, *, is_late: bool) -> None:
    axes.plot([epoch], [score], marker="*", ms=17, color=ORANGE, mec="white", zorder=3)
    # Make room for the text above the star, which is the highest point.
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + 0.12 * (high - low))
    axes.annotate(
        f"best: {score:.4f}, epoch {epoch:g}",
        (epoch, score),
        xytext=(-10 if is_late else 10, 10),
        textcoords="offset points",
        horizontalalignment="right" if is_late else "left",
    )
