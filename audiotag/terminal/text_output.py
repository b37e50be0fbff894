"""Text to a file or to stdout, in a table style that the destination can show."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from audiotag.terminal.stdout import STDOUT, stdout_errors
from classifier.output.table import TableStyle
from vggish.common.files import atomic_write
from vggish.errors import FrameFileError, write_errors_as


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
