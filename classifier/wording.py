"""Lists and long names, put into few words for messages, tables and pictures."""

from __future__ import annotations

from collections.abc import Sequence

# So many of the things that are wrong are named.
_N_NAMED = 5


def few(items: Sequence[str]) -> str:
    """The first items, a line each, and how many more there are."""
    lines = [f"  {item}" for item in items[:_N_NAMED]]
    if len(items) > _N_NAMED:
        lines.append(f"  and {len(items) - _N_NAMED} more")
    return "\n".join(lines)


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
