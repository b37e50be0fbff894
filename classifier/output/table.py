"""Tags as text: a table for people, JSON, rows of CSV. Nothing here reads or writes files."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from classifier.tags.types import ClipTags, Tag, TagSegment, in_time_order
from vggish.common.wording import clock_time, printable, shortened

# Of a shorter sound it is known well enough when something is heard.
_MIN_SECONDS_FOR_TIMES = 3.0

_SECONDS_SHOWN_IN_TENTHS = 60.0

_LABEL_WIDTH, _BAR_WIDTH, _MIN_WIDTH = 28, 20, 60

_BOLD, _CYAN, _DIM, _PLAIN = "\033[1m", "\033[36m", "\033[2m", "\033[0m"

# Of a character cell, in eighths.
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class TableStyle:
    """How a table is drawn.

    Attributes:
        width: columns of the screen.
        unicode: whether block characters can be shown; else bars are of #.
        colour: whether escape sequences may be used.
    """

    width: int = 80
    unicode: bool = True
    colour: bool = False


def as_table(name: str, tags: ClipTags, look: TableStyle) -> list[str]:
    """Lines: the name and duration, a line a tag with a bar, and when each is heard.

    A tag is heard where the score of a frame is at least half of its highest.
    """
    lines = _head(name, tags, look)
    if len(lines) > 1:
        return lines
    times = _times(tags)
    width = max(_MIN_WIDTH, look.width)
    bar_width = _bar_width(look)
    names = _padded([tag.label for tag in tags.tags], look)
    room = width - 2 - _columns(names[0]) - 2 - bar_width - 2 - 6 - 2
    for tag, label in zip(tags.tags, names, strict=True):
        bar = _styled(_bar(tag.score, bar_width, look), _CYAN, look)
        line = f"  {label}  {bar}  {as_percent(tag.score):>6}"
        if tag.index in times:
            heard = _heard(times[tag.index], tags.duration_seconds, room)
            line += f"  {_styled(heard, _DIM, look)}" if heard else ""
        lines.append(line)
    return lines


def as_segment_table(name: str, tags: ClipTags, look: TableStyle) -> list[str]:
    """Lines: the name and duration, and a line for each span in which a tag is heard, by time."""
    lines = _head(name, tags, look)
    if len(lines) > 1:
        return lines
    spans = in_time_order(tags)
    in_tenths = tags.duration_seconds < _SECONDS_SHOWN_IN_TENTHS
    times = [_span(span, in_tenths) + " s" * in_tenths for span in spans]
    width = max(map(len, times), default=0)
    names = _padded([span.label for span in spans], look)
    for span, time, label in zip(spans, times, names, strict=True):
        bar = _styled(_bar(span.score, _bar_width(look), look), _CYAN, look)
        lines.append(f"  {time:>{width}}  {label}  {bar}  {as_percent(span.score):>6}")
    return lines


def as_live_line(start_seconds: float, tags: Sequence[Tag], look: TableStyle) -> str:
    """One line: when, and what is heard there."""
    heard = [f"{_short(tag.label, _LABEL_WIDTH, look)} {as_percent(tag.score)}" for tag in tags]
    while len(heard) > 1 and _columns("; ".join(heard)) > look.width - 14:
        heard.pop()
    time = _styled(f"{_precise_time(start_seconds):>9}", _DIM, look)
    return f"{time}  {'; '.join(heard) or '-'}"


def _head(name: str, tags: ClipTags, look: TableStyle) -> list[str]:
    """The first line, and a second one if there is nothing to tell."""
    title = _short(name, max(_LABEL_WIDTH, look.width - 12), look)
    lines = [f"{_styled(title, _BOLD, look)}  {_clock(tags)}"]
    if tags.is_silent:
        return [*lines, "  silence"]
    return lines if tags.tags else [*lines, "  no tag has a score that high"]


def _padded(labels: Sequence[str], look: TableStyle) -> list[str]:
    """Names of one width: that of the longest, up to what leaves room for the rest."""
    names = [_short(label, _LABEL_WIDTH, look) for label in labels]
    width = max(map(_columns, names), default=0)
    return [name + " " * (width - _columns(name)) for name in names]


def _bar_width(look: TableStyle) -> int:
    return _BAR_WIDTH if look.width >= TableStyle.width else _BAR_WIDTH // 2


def _times(tags: ClipTags) -> dict[int, list[TagSegment]]:
    if tags.duration_seconds <= _MIN_SECONDS_FOR_TIMES:
        return {}
    times: dict[int, list[TagSegment]] = {}
    for segment in tags.segments or ():
        times.setdefault(segment.index, []).append(segment)
    return times


def _heard(segments: Sequence[TagSegment], duration_seconds: float, room: int) -> str:
    """Spans as text of at most `room` columns; what does not fit is counted."""
    only = segments[0]
    if only.start_seconds == 0 and only.end_seconds > duration_seconds - 0.5:
        return "throughout" if len("throughout") <= room else ""
    in_tenths = duration_seconds < _SECONDS_SHOWN_IN_TENTHS
    spans = [_span(segment, in_tenths) for segment in segments]
    for n_shown in range(len(spans), 0, -1):
        n_left = len(spans) - n_shown
        text = ", ".join(spans[:n_shown]) + " s" * in_tenths
        text += f" and {n_left} more" if n_left else ""
        if len(text) <= room:
            return text
    return ""


def _short(text: str, length: int, look: TableStyle) -> str:
    """At most so many letters, in one line, that no terminal takes for anything else."""
    text = printable(text).replace("\n", "\\n")
    if look.unicode or len(text) <= length:
        return shortened(text, length)
    return text[: length - 3] + "..."


def _clock(tags: ClipTags) -> str:
    seconds = tags.duration_seconds
    return f"{seconds:.1f} s" if seconds < _SECONDS_SHOWN_IN_TENTHS else clock_time(seconds)


def _span(segment: TagSegment, in_tenths: bool) -> str:
    start, end = segment.start_seconds, segment.end_seconds
    if in_tenths:
        return f"{start:.1f}-{end:.1f}"
    # No span is from a second to the same.
    return f"{clock_time(int(start))}-{clock_time(max(round(end), int(start) + 1))}"


def _precise_time(seconds: float) -> str:
    minutes, hundredths = divmod(round(seconds * 100), 6000)
    hours, minutes = divmod(minutes, 60)
    rest = f"{hundredths / 100:05.2f}"
    return f"{hours}:{minutes:02}:{rest}" if hours else f"{minutes}:{rest}"


def as_percent(score: float) -> str:
    """A score in few characters."""
    percent = 100 * score
    if percent < 0.05:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def _bar(score: float, width: int, look: TableStyle) -> str:
    if not look.unicode:
        return ("#" * round(score * width)).ljust(width, ".")
    full, eighths = divmod(round(score * width * 8), 8)
    return ("█" * full + (_EIGHTHS[eighths] if eighths else "")).ljust(width)


def _columns(text: str) -> int:
    """How many columns of a screen a text takes: accents none, ideographs two."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _styled(text: str, style: str, look: TableStyle) -> str:
    return f"{style}{text}{_PLAIN}" if look.colour and text.strip() else text
