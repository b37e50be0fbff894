"""Checks on output files before work begins."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from audiotag.terminal.stdout import STDOUT
from vggish.common.wording import count
from vggish.errors import FrameFileError, OptionError

# Longer lists of outputs are counted, not named one by one.
_MAX_OUTPUTS_NAMED = 10

Output = tuple[str, str | Path | None]


def outputs_summary(written: Sequence[tuple[str, Path]], directory: str | Path) -> list[str]:
    """Lines `input -> output`, or one line with the number of files if there are many."""
    if len(written) > _MAX_OUTPUTS_NAMED:
        return [f"{count(len(written), 'file')} -> {directory}{os.sep}"]
    return [f"{source} -> {path}" for source, path in written]


def check_one_destination(out: str | None, out_dir: str | None) -> None:
    """Raise if both -o and --out-dir are given."""
    if out is not None and out_dir is not None:
        raise OptionError("use -o for one file or --out-dir for one file per input, not both")


def refuse_overwriting(outputs: Iterable[Output], read: Iterable[str | Path]) -> None:
    """Raise if an output is one of the files that are read, or is named twice.

    Args:
        outputs: pairs of an option and the path that it names, if it is given.
        read: the inputs.
    """
    inputs = {os.path.realpath(path) for path in read if path != STDOUT}
    named: dict[str, str] = {}
    for option, path in outputs:
        if path is None or path == STDOUT:
            continue
        place = os.path.realpath(path)
        if place in inputs:
            raise OptionError(f"{option} {path} is one of the inputs and would be overwritten")
        if place in named:
            raise OptionError(f"{named[place]} and {option} name the same file, {path}")
        named[place] = option


def check_writable(path: Path, option: str) -> None:
    """Raise if the file that an option names cannot be written; an existing file is kept."""
    try:
        is_new = not path.exists()
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        if not is_new and not path.is_file():
            # Opening a pipe would look like the end of the data to its reader.
            if not os.access(path, os.W_OK):
                raise PermissionError(None, "Permission denied")
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab"):
            pass
        if is_new:
            path.unlink()
    except OSError as error:
        raise FrameFileError(f"cannot write {option} {path}: {error.strerror or error}") from error
