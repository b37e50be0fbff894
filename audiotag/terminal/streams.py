"""Results on stdout; messages, warnings and errors on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from vggish.common.wording import printable
from vggish.errors import AudiotagError, FrameFileError, OptionError

# The name of standard input and output among inputs and outputs.
STDOUT = "-"


@contextlib.contextmanager
def stdout_errors() -> Iterator[None]:
    """Explain why standard output cannot be written. A broken pipe is not an error."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        discard_stdout()
        reason = error.strerror or error
        raise FrameFileError(f"cannot write to standard output: {reason}") from error


def print_result(text: str) -> None:
    """Print the result of a command."""
    with stdout_errors():
        print(text, flush=True)


def print_json(value: object, *, indent: int | None = 2) -> None:
    """Print a result as JSON."""
    print_result(json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False))


def send_to_stdout(path: Path) -> None:
    """Copy a file to standard output."""
    with stdout_errors(), open(path, "rb") as file:
        shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def flush_stdout() -> None:
    """Write what is still buffered, while an error can be reported in words."""
    with stdout_errors():
        if sys.stdout is not None:  # None after `>&-`
            sys.stdout.flush()


def require_stdout() -> None:
    """Raise before the work if standard output is closed."""
    if sys.stdout is None:
        raise OptionError("standard output is closed, and this command writes its result there")


def discard_stdout() -> None:
    """Redirect a failed standard output to nowhere; Python would complain about it at exit."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def log(message: str) -> None:
    """Print a line about progress, a warning or an error."""
    print(printable(f"audiotag: {message}"), file=sys.stderr)


def explain(error: Exception) -> str:
    """The message of an error; an unexpected error comes with its type and what to do."""
    if isinstance(error, (AudiotagError, OSError)):
        return str(error)
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (please report it, with the output of --debug)"


@contextlib.contextmanager
def hide_native_logs(*, debug: bool) -> Iterator[None]:
    """Discard what TensorFlow's C++ code writes to stderr; Python's stderr is still shown."""
    if debug:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    python_stderr = sys.stderr
    try:
        # Line-buffered, also into a log file.
        with os.fdopen(
            os.dup(terminal), "w", buffering=1, encoding="utf-8", errors="replace"
        ) as stderr:
            sys.stderr = stderr
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(terminal, 2)
        os.close(terminal)
