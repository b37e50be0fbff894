"""Plots of inspections."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from classifier.reports import inspection
from classifier.reports.figures import BLUE, ORANGE, RED, new_figure, plot_named_bars, save_figure
from vggish.errors import OptionError


def plot_inspection(found: inspection.Inspection, path: str | Path) -> None:
    """Plot an inspection of frames (classes, lengths, labels) or audio files (durations, rates).

    Raises an `OptionError` if there is nothing to draw.
    """
    figure = new_figure(path)
    if isinstance(found, inspection.FramesInspection) and found.lengths:
        _plot_frames(figure, found)
    elif isinstance(found, inspection.AudioInspection) and found.readable:
        _plot_audio(figure, found.readable)
    else:
        raise OptionError("nothing to draw: only frames and audio files have plots")
    save_figure(figure, path)


def _plot_frames(figure: Any, found: inspection.FramesInspection) -> None:
    if not found.examples:
        figure.set_size_inches(8, 5)
        _plot_counts(figure.subplots(), found.lengths, "frames per clip")
        return
    figure.set_size_inches(15, 10)
    grid = figure.add_gridspec(2, 3, height_ratios=[1, 1.15])
    _plot_classes(figure.add_subplot(grid[0, :]), found)
    _plot_rarest(figure.add_subplot(grid[1, 0]), found)
    _plot_counts(figure.add_subplot(grid[1, 1]), found.lengths, "frames per clip")
    _plot_counts(figure.add_subplot(grid[1, 2]), found.labels_per_clip, "labels per clip")


def _plot_classes(axes: Any, found: inspection.FramesInspection) -> None:
    counts = np.array([n_clips for _, n_clips in reversed(found.by_class())])
    filled = counts[counts > 0]
    ranks = np.arange(1, len(filled) + 1)
    is_few = filled < inspection.FEW_CLIPS
    width = 1.0 if len(filled) > 100 else 0.8
    axes.bar(ranks[~is_few], filled[~is_few], width, color=BLUE)
    if is_few.any():
        label = f"fewer than {inspection.FEW_CLIPS}"
        axes.bar(ranks[is_few], filled[is_few], width, color=RED, label=label)
    median = np.median(counts)
    axes.axhline(median, color=ORANGE, linestyle="--", label=f"median {median:,.0f}")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(bottom=0.7)
    axes.set_xlim(0.4, len(counts) + 0.6)
    axes.xaxis.get_major_locator().set_params(integer=True)
    n_empty = len(counts) - len(filled)
    title = f"{found.report.n_clips:,} clips, {len(counts):,} classes"
    axes.set_title(title + (f", {n_empty:,} of them without clips" if n_empty else ""))
    axes.set(xlabel="classes, most frequent first", ylabel="clips")
    axes.legend(frameon=False)


def _plot_rarest(axes: Any, found: inspection.FramesInspection) -> None:
    ranked = found.by_class()
    counts = [n_clips for _, n_clips in ranked[: inspection.N_NAMED]]
    names = [found.name_of(index) for index, _ in ranked[: inspection.N_NAMED]]
    colours = [RED if n_clips < inspection.FEW_CLIPS else BLUE for n_clips in counts]
    plot_named_bars(axes, names, counts, colours, "{:,.0f}")
    axes.set_xlim(0, max(*counts, 1) * 1.12)
    axes.xaxis.get_major_locator().set_params(integer=True)
    title = "classes" if len(ranked) <= inspection.N_NAMED else "rarest classes"
    axes.set(title=title, xlabel="clips")


def _plot_counts(axes: Any, counts: Mapping[int, int], title: str) -> None:
    rows = inspection.binned(counts, 30)
    places = range(len(rows))
    bars = axes.bar(places, [n for _, n in rows], color=BLUE)
    if len(rows) <= inspection.N_BARS:
        # Small bars are invisible beside large ones, so each has its number.
        axes.bar_label(bars, fmt="{:,.0f}", padding=2, fontsize=8, color="0.3")
    step = math.ceil(len(rows) / inspection.N_BARS)
    axes.set_xticks(places[::step], labels=[name for name, _ in rows[::step]])
    if any("-" in name for name, _ in rows):
        axes.tick_params(axis="x", labelrotation=90)
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.set(title=title, ylabel="clips", xlabel=title.split(" ")[0])


def _plot_audio(figure: Any, files: Sequence[inspection.AudioFile]) -> None:
    figure.set_size_inches(12, 5)
    durations, rates = figure.subplots(1, 2)
    seconds = np.array([file.seconds for file in files])
    durations.hist(seconds, bins=30, color=BLUE, edgecolor="white", linewidth=0.5)
    durations.set_title(f"{len(files):,} files, {inspection.duration(float(seconds.sum()))}")
    durations.set(xlabel="seconds", ylabel="files")
    named = sorted(Counter(file.sample_rate_hz for file in files).items(), reverse=True)
    names = [f"{rate:,} Hz" for rate, _ in named]
    plot_named_bars(rates, names, [n for _, n in named], [BLUE] * len(named), "{:,.0f}")
    rates.set(title="sample rates", xlabel="files")
    for axis in (durations.yaxis, rates.xaxis):
        axis.get_major_locator().set_params(integer=True)
