"""Checks on output files before work begins."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from audiotag.terminal.stdout import STDOUT, print_result
from vggish.common.wording import count as _count, printable as _printable
from vggish.errors import FrameFileError, OptionError

# Up to so many outputs are named one by one on a terminal or in a log.
MAX_OUTPUTS_NAMED = 10


def report_outputs(written: Sequence[tuple[str, Path]], directory: str) -> None:
    if len(written) > MAX_OUTPUTS_NAMED:
        print_result(_printable(f"{_count(len(written), 'file')} -> {directory}{os.sep}"))
        return
    for source, path in written:
        print_result(_printable(f"{source} -> {path}"))


def refuse_both_outputs(options: argparse.Namespace) -> None:
    if options.out is not None and options.out_dir is not None:
        raise OptionError("use -o for one file or --out-dir for one file per input, not both")


def refuse_overwriting(
    outputs: Iterable[tuple[str, str | Path | None]], read: Iterable[str | Path]
) -> None:
    """Raise if a file that an option names is among those that are read, or named twice."""
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
    """Raise if what an option names cannot be written; what is there stays as it is."""
    try:
        is_new = not path.exists()
        if path.is_dir():
            raise IsADirectoryError(None, "it is a directory")
        if not is_new and not path.is_file():
            # Whoever reads a pipe would take a trial for the end.
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
