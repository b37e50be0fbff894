"""Format numbers, lists, paths and file names for messages and tables."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

# Number of items that a message lists before it says how many more there are.
_N_LISTED = 5


def count(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count(1, "clip"), count(4070, "file"), count(0, "class", "classes")
    ('1 clip', '4,070 files', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def score(value: float) -> str:
    """A metric with four digits, or a dash if it is undefined (NaN)."""
    return f"{value:.4f}" if value == value else "-"


def clock_time(seconds: float | None, decimals: int = 0) -> str:
    """A duration in minutes and seconds, with hours if there are any; None is unknown.

    >>> clock_time(59.6), clock_time(3661), clock_time(75, decimals=2), clock_time(None)
    ('1:00', '1:01:01', '1:15.00', '-:--')
    """
    if seconds is None:
        return "-:--"
    scale = 10**decimals
    minutes, rest = divmod(round(seconds * scale), 60 * scale)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / scale:0{3 + decimals if decimals else 2}.{decimals}f}"
    return f"{hours}:{minutes:02}:{text}" if hours else f"{minutes}:{text}"


def prefix_location(where: str, message: str) -> str:
    """A message after the name of the file it is about, unless the message contains the name."""
    return message if where in message else f"{where}: {message}"


def one_line(name: str) -> str:
    r"""A file name with line breaks shown as `\n`, so that it stays on one line."""
    return name.replace("\n", "\\n").replace("\r", "\\r")


def first_few(items: Sequence[str]) -> str:
    """The first items, one per indented line, and how many more there are."""
    lines = [f"  {item}" for item in items[:_N_LISTED]]
    if len(items) > _N_LISTED:
        lines.append(f"  and {len(items) - _N_LISTED} more")
    return "\n".join(lines)


def summarise_paths(paths: Sequence[str]) -> list[str]:
    """The paths if they are few; otherwise the number of files in each directory.

    >>> summarise_paths([f"data/{n}.tfrecord" for n in range(100)] + ["b.npz"])
    ['100 files in data/', 'b.npz']
    """
    if len(paths) <= _N_LISTED:
        return list(paths)
    directories = Counter(os.path.dirname(path) for path in paths)
    if len(directories) > _N_LISTED:
        return [f"{len(paths):,} files in {len(directories):,} directories"]
    only_file = {os.path.dirname(path): path for path in paths}
    return [
        f"{n:,} files in {os.path.join(directory or '.', '')}" if n > 1 else only_file[directory]
        for directory, n in directories.items()
    ]


def shortened(name: str, length: int) -> str:
    """A name of at most `length` characters, ending with an ellipsis if it was cut."""
    return name if len(name) <= length else name[: length - 1] + "…"


def printable(text: str) -> str:
    r"""Text with control characters escaped, so that file names cannot control a terminal.

    >>> print(printable("dog\x1b[2J.wav"))
    dog\x1b[2J.wav
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def as_text(name: str) -> str:
    r"""A file name as valid Unicode: bytes that are not UTF-8 become `\udcxx`."""
    return name.encode("utf-8", "backslashreplace").decode()
