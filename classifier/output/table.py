"""Format tags as a table for a terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from classifier.tags.types import ClipTags, Tag, TagSegment, in_time_order
from vggish.common.wording import clock_time, printable

# Times of detection are not shown for shorter clips.
_MIN_SECONDS_FOR_TIMES = 3.0
_MAX_SECONDS_FOR_TENTHS = 60.0
_LABEL_WIDTH, _BAR_WIDTH, _MIN_WIDTH = 28, 20, 60
_BOLD, _CYAN, _DIM, _RESET = "\033[1m", "\033[36m", "\033[2m", "\033[0m"
# Left parts of a character cell, in eighths.
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True)
class TableStyle:
    """Style of tables."""

    width: int = 80  # columns of the terminal
    unicode: bool = True  # block characters; otherwise bars consist of #
    colour: bool = False  # ANSI escape sequences


def as_table(name: str, tags: ClipTags, style: TableStyle) -> list[str]:
    """Format a clip: a line with its name and duration, then a line for each tag."""
    lines = _heading(name, tags, style)
    if len(lines) > 1:
        return lines
    segments: dict[int, list[TagSegment]] = {}
    if tags.duration_seconds > _MIN_SECONDS_FOR_TIMES:
        for segment in tags.segments or ():
            segments.setdefault(segment.index, []).append(segment)
    labels = _padded([tag.label for tag in tags.tags], style)
    # Two spaces before each column, and six characters for the score.
    room = max(_MIN_WIDTH, style.width) - _width(labels[0]) - _bar_width(style) - 6 - 4 * 2
    for tag, label in zip(tags.tags, labels, strict=True):
        times = _times(segments.get(tag.index, ()), tags.duration_seconds, room)
        line = f"  {label}  {_bar_and_score(tag.score, style)}"
        lines.append(f"{line}  {_styled(times, _DIM, style)}" if times else line)
    return lines


def as_segment_table(name: str, tags: ClipTags, style: TableStyle) -> list[str]:
    """Format a clip: a line with its name and duration, then a line for each segment, by time."""
    lines = _heading(name, tags, style)
    if len(lines) > 1:
        return lines
    segments = in_time_order(tags)
    in_tenths = tags.duration_seconds < _MAX_SECONDS_FOR_TENTHS
    times = [_span(segment, in_tenths) + " s" * in_tenths for segment in segments]
    width = max(map(len, times), default=0)
    labels = _padded([segment.label for segment in segments], style)
    for segment, time, label in zip(segments, times, labels, strict=True):
        lines.append(f"  {time:>{width}}  {label}  {_bar_and_score(segment.score, style)}")
    return lines


def as_live_line(start_seconds: float, tags: Sequence[Tag], style: TableStyle) -> str:
    """Format a frame of a live stream as one line, with as many tags as fit."""
    texts = [f"{_short(tag.label, _LABEL_WIDTH, style)} {as_percent(tag.score)}" for tag in tags]
    while len(texts) > 1 and _width("; ".join(texts)) > style.width - 14:
        texts.pop()
    time = _styled(f"{clock_time(start_seconds, decimals=2):>9}", _DIM, style)
    return f"{time}  {'; '.join(texts) or '-'}"


def as_percent(score: float) -> str:
    """Format a score as a percentage of at most six characters."""
    percent = 100 * score
    if percent < 0.05:
        return "<0.1 %"
    return f"{percent:.0f} %" if percent >= 9.95 else f"{percent:.1f} %"


def _heading(name: str, tags: ClipTags, style: TableStyle) -> list[str]:
    """The first line, and a second one if there are no tags to show."""
    seconds = tags.duration_seconds
    duration = f"{seconds:.1f} s" if seconds < _MAX_SECONDS_FOR_TENTHS else clock_time(seconds)
    title = _short(name, max(_LABEL_WIDTH, style.width - 12), style)
    lines = [f"{_styled(title, _BOLD, style)}  {duration}"]
    if tags.is_silent:
        return [*lines, "  silence"]
    return lines if tags.tags else [*lines, "  no tag reaches the threshold"]


def _padded(labels: Sequence[str], style: TableStyle) -> list[str]:
    short = [_short(label, _LABEL_WIDTH, style) for label in labels]
    width = max(map(_width, short), default=0)
    return [label + " " * (width - _width(label)) for label in short]


def _short(text: str, width: int, style: TableStyle) -> str:
    """One line of at most `width` columns, without control characters."""
    text = printable(text).replace("\n", "\\n")
    if _width(text) <= width:
        return text
    ellipsis = "…" if style.unicode else "..."
    while _width(text) > width - len(ellipsis):
        text = text[:-1]
    return text + ellipsis


# Not `rich.cells`: importing rich would slow down every run of `audiotag classify`.
def _width(text: str) -> int:
    """Columns on a terminal: none for combining characters, two for wide ones."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def _bar_width(style: TableStyle) -> int:
    return _BAR_WIDTH if style.width >= TableStyle.width else _BAR_WIDTH // 2


def _bar_and_score(score: float, style: TableStyle) -> str:
    width = _bar_width(style)
    if style.unicode:
        full, eighths = divmod(round(score * width * 8), 8)
        bar = ("█" * full + (_EIGHTHS[eighths] if eighths else "")).ljust(width)
    else:
        bar = ("#" * round(score * width)).ljust(width, ".")
    return f"{_styled(bar, _CYAN, style)}  {as_percent(score):>6}"


def _times(segments: Sequence[TagSegment], duration_seconds: float, room: int) -> str:
    """The spans of a tag in at most `room` columns; spans that do not fit are counted."""
    if not segments:
        return ""
    if segments[0].start_seconds == 0 and segments[0].end_seconds > duration_seconds - 0.5:
        return "throughout" if len("throughout") <= room else ""
    in_tenths = duration_seconds < _MAX_SECONDS_FOR_TENTHS
    spans = [_span(segment, in_tenths) for segment in segments]
    for n_shown in range(len(spans), 0, -1):
        n_left = len(spans) - n_shown
        text = ", ".join(spans[:n_shown]) + " s" * in_tenths
        text += f" and {n_left} more" if n_left else ""
        if len(text) <= room:
            return text
    return ""


def _span(segment: TagSegment, in_tenths: bool) -> str:
    start, end = segment.start_seconds, segment.end_seconds
    if in_tenths:
        return f"{start:.1f}-{end:.1f}"
    # A span has at least one second.
    return f"{clock_time(int(start))}-{clock_time(max(round(end), int(start) + 1))}"


def _styled(text: str, code: str, style: TableStyle) -> str:
    return f"{code}{text}{_RESET}" if style.colour and text.strip() else text
