"""Plot a tagged clip: waveform, log-mel spectrogram, and the score of each tag over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.reports.figures import BLUE, new_figure, save_figure
from classifier.tags.tracks import TagTracks
from classifier.tags.types import ClipTags, Tags
from vggish.common.wording import shortened
from vggish.mel_features import log_mel_spectrogram
from vggish.params import (
    MEL_MAX_HZ,
    MEL_MIN_HZ,
    N_BANDS,
    PATCH_SECONDS,
    SAMPLE_RATE_HZ,
    STFT_HOP_SAMPLES,
    STFT_WINDOW_SAMPLES,
)

# More columns than these do not show on a screen.
_MAX_COLUMNS = 2000
_TICKS_HZ = (250, 500, 1000, 2000, 4000)
_LABEL_LENGTH = 34


def plot_tags(
    waveform: npt.NDArray[np.floating],
    tags: ClipTags,
    path: str | Path,
    *,
    title: str = "",
    tracks: TagTracks | None = None,
) -> None:
    """Plot a clip and its tags, best on top, to a .png, .svg or .pdf file.

    The waveform [n_samples] is mono, in [-1, 1], at 16 kHz. The tracks are for the heat map, by
    default those of `tags` if these are the result of a `Tagger`.
    """
    if tracks is None and isinstance(tags, Tags):
        tracks = TagTracks.of(tags)
    n_rows = max(1, len(tags.tags))
    figure = new_figure(path, figsize=(10, 4.6 + 0.3 * n_rows))
    wave, mel, scores = figure.subplots(
        3, 1, sharex=True, height_ratios=[1.0, 1.7, 0.35 + 0.24 * n_rows]
    )
    duration_seconds = len(waveform) / SAMPLE_RATE_HZ
    _draw_waveform(wave, waveform)
    _draw_log_mel(mel, waveform, duration_seconds)
    _draw_tags(figure, scores, tags, tracks, duration_seconds)
    wave.set_title(shortened(title, 90), loc="left", parse_math=False)  # a file name may have $
    scores.set_xlim(0, max(duration_seconds, PATCH_SECONDS))
    scores.set_xlabel("seconds")
    save_figure(figure, path)


def _draw_waveform(axes: Any, waveform: npt.NDArray[np.floating]) -> None:
    """Fill between the lowest and the highest sample of each column."""
    step = max(1, math.ceil(len(waveform) / _MAX_COLUMNS))
    columns = np.pad(waveform, (0, -len(waveform) % step), mode="edge").reshape(-1, step)
    seconds = np.arange(len(columns)) * step / SAMPLE_RATE_HZ
    axes.fill_between(seconds, columns.min(axis=1), columns.max(axis=1), color=BLUE, linewidth=0.6)
    peak = max(0.05, 1.1 * float(columns.max(initial=0.0)), -1.1 * float(columns.min(initial=0.0)))
    axes.set(ylim=(-peak, peak), ylabel="waveform")


def _draw_log_mel(axes: Any, waveform: npt.NDArray[np.floating], duration_seconds: float) -> None:
    # Only frames that are drawn: all frames of a long clip would take gigabytes.
    n_samples = len(waveform) - STFT_WINDOW_SAMPLES + 1
    step = STFT_HOP_SAMPLES * max(1, math.ceil(n_samples / STFT_HOP_SAMPLES / _MAX_COLUMNS))
    windows = [waveform[at : at + STFT_WINDOW_SAMPLES] for at in range(0, n_samples, step)]
    log_mel = np.concatenate([log_mel_spectrogram(each) for each in windows or [waveform]])
    axes.imshow(
        log_mel.T,
        origin="lower",
        aspect="auto",
        extent=(0, duration_seconds, 0, N_BANDS),
        cmap="magma",
        interpolation="nearest",
    )
    axes.set_yticks([_band(hz) for hz in _TICKS_HZ], [f"{hz:,}" for hz in _TICKS_HZ])
    axes.set_ylabel("log-mel, Hz")


def _draw_tags(
    figure: Any, axes: Any, tags: ClipTags, tracks: TagTracks | None, duration_seconds: float
) -> None:
    names = [f"{shortened(tag.label, _LABEL_LENGTH)}  {tag.score:.0%}" for tag in tags.tags]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    if not tags.tags or tracks is None:
        return
    starts = tracks.start_seconds
    end = min(starts[-1] + PATCH_SECONDS, max(duration_seconds, starts[-1] + 0.01))
    rows = np.arange(len(names) + 1) - 0.5
    mesh = axes.pcolormesh(
        np.append(starts, end), rows, tracks.scores.T, cmap="viridis", vmin=0.0, vmax=1.0
    )
    figure.colorbar(mesh, ax=axes, label="score", fraction=0.03, pad=0.01)


def _band(hz: float) -> float:
    """Position of a frequency among the mel bands, 0 to 64."""
    low, high, here = (1127 * math.log1p(f / 700) for f in (MEL_MIN_HZ, MEL_MAX_HZ, hz))
    return (here - low) / (high - low) * N_BANDS
