"""Numbers, lists and long names, put into few words for messages, tables and pictures."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence

# So many of the things that are wrong are named.
_N_NAMED = 5


def count(n: int, noun: str, plural: str = "") -> str:
    """A number with its noun.

    >>> count(1, "clip"), count(4070, "file"), count(0, "class", "classes")
    ('1 clip', '4,070 files', '0 classes')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def score(value: float) -> str:
    """A measure with four digits; a dash if it is not defined (NaN)."""
    return f"{value:.4f}" if value == value else "-"


def located(where: str, text: str) -> str:
    """What is wrong, behind the name of where, unless the text has that name by itself."""
    return text if where in text else f"{where}: {text}"


def one_line(name: str) -> str:
    r"""A name of a file in which a line break shows as `\n`, so that it stays within its line."""
    return name.replace("\n", "\\n").replace("\r", "\\r")


def few(items: Sequence[str]) -> str:
    """The first items, a line each, and how many more there are."""
    lines = [f"  {item}" for item in items[:_N_NAMED]]
    if len(items) > _N_NAMED:
        lines.append(f"  and {len(items) - _N_NAMED} more")
    return "\n".join(lines)


def paths_in_few_words(paths: Sequence[str]) -> list[str]:
    """Paths as they are, or if there are many, how many lie in which directory.

    >>> paths_in_few_words([f"data/{n}.tfrecord" for n in range(100)] + ["b.npz"])
    ['100 files in data/', 'b.npz']
    """
    if len(paths) <= _N_NAMED:
        return list(paths)
    places = Counter(os.path.dirname(path) for path in paths)
    if len(places) > _N_NAMED:
        return [f"{len(paths):,} files in {len(places):,} directories"]
    alone = {os.path.dirname(path): path for path in paths}
    return [
        f"{n:,} files in {os.path.join(place or '.', '')}" if n > 1 else alone[place]
        for place, n in places.items()
    ]


def shortened(name: str, length: int) -> str:
    """At most so many letters of a name, with an ellipsis where it had more."""
    return name if len(name) <= length else name[: length - 1] + "…"


def printable(text: str) -> str:
    r"""Text in which names of files cannot play tricks on a terminal; lines stay lines.

    >>> print(printable("dog\x1b[2J.wav"))
    dog\x1b[2J.wav
    """
    return "".join(
        c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text
    )


def as_text(name: str) -> str:
    r"""A file's name as text that every format can hold: what is no UTF-8 becomes `\udcxx`."""
    return name.encode("utf-8", "backslashreplace").decode()
