"""Pictures of what an inspection found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifier.reports.figures import BLUE, ORANGE, RED, new_figure, save_figure
from classifier.reports.inspection import (
    FEW_CLIPS,
    N_BARS,
    N_NAMED,
    AudioFile,
    AudioInspection,
    FramesInspection,
    Inspection,
    binned,
    duration,
    tally,
)
from vggish.common.wording import shortened
from vggish.errors import OptionError


def plot_inspection(inspection: Inspection, path: str | Path) -> None:
    """Draw what was found.

    Args:
        inspection: of frames (examples of each class, the rarest classes, frames and labels of a
            clip) or of sound files (durations and sample rates).
        path: of a PNG, SVG or PDF; its suffix says which.

    Raises:
        OptionError: there is nothing to draw, or matplotlib draws no such files.
        FrameFileError: the file cannot be written.
        MissingPackageError: matplotlib is not installed.
    """
    figure = new_figure(path)
    if isinstance(inspection, FramesInspection) and inspection.lengths:
        _plot_frames(figure, inspection)
    elif isinstance(inspection, AudioInspection) and inspection.readable:
        _plot_audio(figure, inspection.readable)
    else:
        raise OptionError("there is nothing to draw: only frames and sound files have pictures")
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def _plot_frames(figure: Any, found: FramesInspection) -> None:
    if not found.examples:
        figure.set_size_inches(8, 5)
        _plot_counts(figure.subplots(), found.lengths, "frames in a clip")
        return
    figure.set_size_inches(15, 10)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.15])
    _plot_classes(figure.add_subplot(grid[0, :]), found)
    _plot_rarest(figure.add_subplot(grid[1, 0]), found)
    _plot_counts(figure.add_subplot(grid[1, 1]), found.lengths, "frames in a clip")
    _plot_counts(figure.add_subplot(grid[1, 2]), found.labels_per_clip, "labels of a clip")


def _plot_classes(axes: Any, found: FramesInspection) -> None:
    counts = np.array([n_clips for _, n_clips in reversed(found.by_class())])
    filled = counts[counts > 0]
    ranks = np.arange(1, len(filled) + 1)
    is_few = filled < FEW_CLIPS
    width = 1.0 if len(filled) > 100 else 0.8
    axes.bar(ranks[~is_few], filled[~is_few], width, color=BLUE)
    if is_few.any():
        few = f"fewer than {FEW_CLIPS}"
        axes.bar(ranks[is_few], filled[is_few], width, color=RED, label=few)
    middle = np.median(counts)
    axes.axhline(middle, color=ORANGE, linestyle="--", label=f"median {middle:,.0f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(0.4, len(counts) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    n_none = len(counts) - len(filled)
    title = f"{found.report.n_clips:,} clips, {len(counts):,} classes"
    axes.set_title(title + (f", {n_none:,} of them without an example" if n_none else ""))
    axes.set(xlabel="classes, most frequent first", ylabel="clips")
    axes.legend(frameon=False)


def _plot_rarest(axes: Any, found: FramesInspection) -> None:
    rarest = found.by_class()[:N_NAMED]
    places, counts = range(len(rarest)), [n_clips for _, n_clips in rarest]
    bars = axes.barh(places, counts, color=[RED if n < FEW_CLIPS else BLUE for n in counts])
    names = [shortened(found.name_of(index), 28) for index, _ in rarest]
    axes.set_yticks(places, labels=names, fontsize=9, parse_math=False)
    axes.invert_yaxis()
    axes.bar_label(bars, fmt="{:,.0f}", padding=4, fontsize=8, color="0.3")
    axes.set_xlim(0, max(*counts, 1) * 1.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_title(
        "classes" if len(rarest) == len(found.by_class()) else "classes with the fewest examples"
    )
    axes.set_xlabel("clips")


def _plot_counts(axes: Any, counts: Mapping[int, int], what: str) -> None:
    rows = binned(counts, 30)
    places = range(len(rows))
    bars = axes.bar(places, [n for _, n in rows], color=BLUE)
    if len(rows) <= N_BARS:
        # Beside a bar of thousands, one of ten cannot be seen.
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8, color="0.3")
    step = math.ceil(len(rows) / N_BARS)
    axes.set_xticks(places[::step], labels=[name for name, _ in rows[::step]])
    if any("-" in name for name, _ in rows):
        axes.tick_params(axis="x", labelrotation=90)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(title=what, ylabel="clips", xlabel=what.split(" ")[0])


def _plot_audio(figure: Any, files: Sequence[AudioFile]) -> None:
    figure.set_size_inches(12, 5)
    durations, rates = figure.subplots(1, 2)
    seconds = np.array([file.seconds for file in files])
    durations.hist(seconds, bins=30, color=BLUE, edgecolor="white", linewidth=0.5)
    durations.set_title(f"{len(files):,} files, {duration(float(seconds.sum()))}")
    durations.set(xlabel="seconds", ylabel="files")
    named = tally(file.sample_rate_hz for file in files)
    rates.barh(range(len(named)), [n for _, n in named], color=BLUE)
    rates.set_yticks(range(len(named)), labels=[f"{rate:,} Hz" for rate, _ in named])
    rates.set(title="sample rates", xlabel="files")
    for axis in (durations.yaxis, rates.xaxis):
        axis.get_major_locator().set_params(integer=True)
