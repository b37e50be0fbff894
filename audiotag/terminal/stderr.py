"""Messages, warnings and errors on stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from vggish.common.wording import printable
from vggish.errors import AudiotagError


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
