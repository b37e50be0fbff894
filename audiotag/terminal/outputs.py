"""Output files: checks before work begins, and text in a style that its destination shows."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from audiotag.terminal.streams import STDOUT, stdout_errors
from classifier.output.table import TableStyle
from vggish.common.files import atomic_write
from vggish.common.wording import count
from vggish.errors import FrameFileError, OptionError, write_errors_as

Output = tuple[str, str | Path | None]


def outputs_summary(written: Sequence[tuple[str, Path]], directory: str | Path) -> list[str]:
    """Lines `input -> output`, or one line with the number of files if there are many."""
    if len(written) > 10:
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


@contextlib.contextmanager
def text_output(out: str | None) -> Iterator[tuple[Callable[[str], object], TableStyle]]:
    """Open a text file, or stdout for None and "-"; yields a write function and a table style."""
    if out not in (None, STDOUT):
        with write_errors_as(FrameFileError, out), atomic_write(Path(out)) as file:
            yield lambda text: file.write(text.encode("utf-8", "backslashreplace")), TableStyle()
        return
    stdout = sys.stdout
    style = TableStyle(unicode=_can_encode("█▏", stdout.encoding))
    if stdout.isatty():
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        style = TableStyle(shutil.get_terminal_size().columns, style.unicode, not plain)

    def write(text: str) -> None:
        with stdout_errors():
            stdout.write(text)
            stdout.flush()  # a pipe gets each line at once, too

    yield write, style


def _can_encode(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
