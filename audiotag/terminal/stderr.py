"""Messages, warnings and errors on stderr."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from vggish.common.wording import prefix_location, printable as _printable
from vggish.errors import AudiotagError

if TYPE_CHECKING:
    from classifier.frame_data.clips import ReadReport


def explain(error: Exception) -> str:
    if isinstance(error, (AudiotagError, OSError)):
        return str(error)
    kind = type(error).__name__
    return f"unexpected {kind}: {error} (please report it, with the output of --debug)"


def warn_source(source: str, kind: str, text: str) -> None:
    from vggish.audio.sources import source_name

    text = prefix_location(source_name(source), text)
    print(_printable(f"audiotag: {kind}: {text}"), file=sys.stderr)


def warn_bad_records(options: argparse.Namespace, report: ReadReport) -> None:
    for warning in report.warnings():
        print_status(options, f"warning: {warning}")


def print_status(options: argparse.Namespace, line: str) -> None:
    if not options.quiet:
        print(_printable(f"audiotag: {line}"), file=sys.stderr)


def status_printer(options: argparse.Namespace) -> Callable[[str], None]:
    return functools.partial(print_status, options)


@contextlib.contextmanager
def hide_native_logs(options: argparse.Namespace) -> Iterator[None]:
    """Keep what TensorFlow's C++ side writes to stderr off the screen; ours still gets there."""
    if options.debug:
        yield
        return
    sys.stderr.flush()
    terminal = os.dup(2)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    python_stderr = sys.stderr
    try:
        # Line by line, also into a log.
        with os.fdopen(
            os.dup(terminal), "w", buffering=1, encoding="utf-8", errors="replace"
        ) as ours:
            sys.stderr = ours
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(terminal, 2)
        os.close(terminal)
