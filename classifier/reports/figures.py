"""Pictures: figures of matplotlib, made without its global state and written whole."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from vggish.common.extras import import_extra
from vggish.common.files import atomic_write
from vggish.errors import AudiotagError, FrameFileError, OptionError, unwritable_as

BLUE, ORANGE, RED = "#3b6fb6", "#d9822b", "#b5413c"

_DOTS_PER_INCH = 120

_KINDS = ("png", "svg", "pdf")


def new_figure(path: str | Path, *, purpose: str = "a plot", **options: Any) -> Any:
    """An empty figure, to be written to `path`.

    Args:
        path: of a PNG, SVG or PDF; its suffix says which.
        purpose: what needs matplotlib, as the subject of the error's first sentence.
        options: of `matplotlib.figure.Figure`, such as `figsize` in inches.

    Raises:
        OptionError: matplotlib draws no such files.
        MissingPackageError: matplotlib is not installed.
    """
    module = import_extra("matplotlib.figure", extra="plot", purpose=purpose)
    figure = module.Figure(layout="constrained", **options)
    if _kind(path) not in _KINDS:
        raise OptionError(f"cannot draw {path}: use a name that ends in .png, .svg or .pdf")
    return figure


def check_drawable(path: str | Path) -> None:
    """Raise now what `new_figure` would raise of this path, before there is anything to draw."""
    new_figure(path)


def save_figure(
    figure: Any, path: str | Path, failure: type[AudiotagError] = FrameFileError
) -> None:
    """Write a figure; the file has its name only when it is whole.

    Raises:
        failure: the file cannot be written.
    """
    with (
        warnings.catch_warnings(),
        unwritable_as(failure, path),
        atomic_write(Path(path)) as file,
    ):
        # Letters that the font lacks are drawn as boxes, which whoever looks at it sees.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing")
        figure.savefig(file, format=_kind(path), dpi=_DOTS_PER_INCH)


def _kind(path: str | Path) -> str:
    return Path(path).suffix.lower().lstrip(".") or "png"
