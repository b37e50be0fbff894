"""Matplotlib figures, made without global state and written atomically."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vggish.common.extras import import_extra
from vggish.common.files import atomic_write
from vggish.common.wording import shortened
from vggish.errors import AudiotagError, FrameFileError, OptionError, write_errors_as

BLUE, ORANGE, RED, GREY = "#3b6fb6", "#d9822b", "#b5413c", "0.45"
_DOTS_PER_INCH = 120
_SUFFIXES = (".png", ".svg", ".pdf")


def new_figure(path: str | Path, *, purpose: str = "a plot", **options: Any) -> Any:
    """Create an empty figure that will be written to `path` (.png, .svg, .pdf; no suffix is PNG).

    `purpose` is the subject of the error message if matplotlib is missing; `options` are arguments
    of `matplotlib.figure.Figure`, such as `figsize` in inches.
    """
    module = import_extra("matplotlib.figure", extra="plot", purpose=purpose)
    if _suffix(path) not in _SUFFIXES:
        raise OptionError(f"cannot draw {path}: use a name that ends in .png, .svg or .pdf")
    return module.Figure(layout="constrained", **options)


def check_drawable(path: str | Path) -> None:
    """Raise what `new_figure` would raise for this path."""
    new_figure(path)


def save_figure(
    figure: Any, path: str | Path, failure: type[AudiotagError] = FrameFileError
) -> None:
    """Write a figure atomically, without top and right borders; raise `failure` if it cannot be."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    with (
        warnings.catch_warnings(),
        write_errors_as(failure, path),
        atomic_write(Path(path)) as file,
    ):
        # Characters that the font lacks are drawn as boxes.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing")
        figure.savefig(file, format=_suffix(path)[1:], dpi=_DOTS_PER_INCH)


def plot_named_bars(
    axes: Any,
    names: Sequence[str],
    values: Sequence[float],
    colours: Sequence[str],
    number_format: str,
    *,
    places: Sequence[int] | None = None,
) -> None:
    """Draw horizontal bars from top to bottom, with a name and a number for each.

    `number_format` is as "{:.2f}"; `places` are positions from the top, by default 0, 1, 2 ...
    """
    places = range(len(names)) if places is None else places
    bars = axes.barh(places, values, color=colours)
    axes.bar_label(bars, fmt=number_format, padding=4, fontsize=8, color="0.3")
    axes.set_yticks(
        places, labels=[shortened(name, 36) for name in names], fontsize=9, parse_math=False
    )
    axes.invert_yaxis()


def _suffix(path: str | Path) -> str:
    return Path(path).suffix.lower() or ".png"
