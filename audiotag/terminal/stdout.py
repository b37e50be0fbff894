"""Results on stdout."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from vggish.errors import FrameFileError, OptionError, write_errors_as

if TYPE_CHECKING:
    from classifier.output.table import TableStyle


STDOUT = "-"


def flush_stdout() -> None:
    """Write what is still buffered while an error can be reported in words."""
    with _stdout_errors():
        if sys.stdout is not None:  # as after `>&-`
            sys.stdout.flush()


@contextlib.contextmanager
def _stdout_errors() -> Iterator[None]:
    """Around writing to standard output: say what could not be written."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever reads has had enough; that is not an error
    except OSError as error:
        discard_stdout()
        reason = error.strerror or error
        raise FrameFileError(f"cannot write to standard output: {reason}") from error


def print_result(text: str) -> None:
    """Print what a command is for."""
    with _stdout_errors():
        print(text, flush=True)


def require_stdout() -> None:
    """Raise before the work if what it gives could not be shown."""
    if sys.stdout is None:
        raise OptionError("standard output is closed, and this command writes what it finds there")


def discard_stdout() -> None:
    """Let go of a standard output that takes no more; at exit Python would complain of it."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


@contextlib.contextmanager
def text_output(out: str | None) -> Iterator[tuple[Callable[[str], object], TableStyle]]:
    """Where text goes, and how a table looks there."""
    from classifier.output.table import TableStyle

    if out not in (None, STDOUT):
        from vggish.common.files import atomic_write

        with write_errors_as(FrameFileError, out), atomic_write(Path(out)) as file:
            yield lambda text: file.write(text.encode("utf-8", "backslashreplace")), TableStyle()
        return
    stdout = sys.stdout
    look = TableStyle(unicode=_can_show("█▏", stdout.encoding))
    if stdout.isatty():
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        look = TableStyle(shutil.get_terminal_size().columns, look.unicode, not plain)

    def write(text: str) -> None:
        with _stdout_errors():
            stdout.write(text)
            stdout.flush()  # as they come, also into a pipe

    yield write, look


def _can_show(text: str, encoding: str | None) -> bool:
    try:
        text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def send_to_stdout(path: Path) -> None:
    try:
        with open(path, "rb") as file:
            shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except OSError as error:
        discard_stdout()
        # Whoever reads may have had enough (`| head`); that is not an error.
        if not isinstance(error, BrokenPipeError):
            raise FrameFileError(
                f"cannot write to standard output: {error.strerror or error}"
            ) from error


def to_json(value: object, indent: int | None = 2) -> str:
    import json

    return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
