"""Label tracks: when each tag is heard, for players, Audacity and Raven. Text only, no files.

    srt       SubRip subtitles; all that is heard at a time is one cue
    audacity  a label track: start, end and label, a line a span
    raven     a Raven Pro selection table: a row a span

Spans are those of `ClipTags.segments`, in the order of time. What is silent has none.

Sources: the SubRip format as players read it (cues in order, none overlapping); the Audacity
manual, "Importing and Exporting Labels"; the Raven Pro 1.4 user's manual, chapter 6.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import PurePath

from classifier.tags.types import ClipTags, TagSegment, in_time_order
from vggish.params import MEL_MAX_HZ, MEL_MIN_HZ

RAVEN_COLUMNS = (
    *("Selection", "View", "Channel", "Begin Time (s)", "End Time (s)"),
    *("Low Freq (Hz)", "High Freq (Hz)", "Begin File", "Begin Path", "File Offset (s)"),
    *("Label", "MID", "Score"),
)

# What players take for markup of SubRip cues, and what looks like it.
_NO_MARKUP = str.maketrans("<>{}", "\u2039\u203a()")


def as_srt(tags: ClipTags) -> str:
    r"""SubRip: cues that follow one another, each with a line for each tag heard, the best first.

    Spans that overlap are cut where another begins or ends, for players show one cue at a time.
    What would be markup in a label (`<i>`, `{\an8}`) becomes letters that look like it.

    Raises:
        OptionError: the tags have no times.
    """
    cues = [
        f"{number}\n{_srt_time(start)} --> {_srt_time(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(tags), 1)
    ]
    return "\n".join(cues)


def as_audacity(tags: ClipTags) -> str:
    """An Audacity label track, a line `start TAB end TAB label` for each span.

    Raises:
        OptionError: the tags have no times.
    """
    return "".join(
        f"{span.start_seconds:.6f}\t{span.end_seconds:.6f}\t{_label(span)}\n"
        for span in in_time_order(tags)
    )


def raven_header() -> str:
    """The first line of a Raven selection table, with its end."""
    return "\t".join(RAVEN_COLUMNS) + "\n"


def as_raven(
    path: str,
    tags: ClipTags,
    *,
    sample_rate_hz: float | None = None,
    first_selection: int = 1,
    begin_seconds: float = 0.0,
) -> str:
    """Rows of a Raven Pro selection table, one for each span, over all that the model hears of it.

    Args:
        path: of the sound, for the columns Begin File and Begin Path.
        tags: what is heard in it.
        sample_rate_hz: of the sound: no selection may reach above half of it.
        first_selection: number of the first row.
        begin_seconds: where the sound begins in the sequence of files that the table is for;
            Begin Time and End Time count from the first file, File Offset from this one.

    Raises:
        OptionError: the tags have no times.
    """
    high_hz = MEL_MAX_HZ if sample_rate_hz is None else min(MEL_MAX_HZ, sample_rate_hz / 2)
    rows = [
        (
            number,
            "Spectrogram 1",
            1,
            f"{begin_seconds + span.start_seconds:.6f}",
            f"{begin_seconds + span.end_seconds:.6f}",
            f"{MEL_MIN_HZ:.1f}",
            f"{high_hz:.1f}",
            _one_line(PurePath(path).name),
            _one_line(path),
            f"{span.start_seconds:.6f}",
            _label(span),
            _one_line(span.mid),
            span.score,
        )
        for number, span in enumerate(in_time_order(tags), first_selection)
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _cues(tags: ClipTags) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds, and text; in order, apart, each different from the last."""
    spans = [
        (_milliseconds(span.start_seconds), _milliseconds(span.end_seconds), span)
        for span in in_time_order(tags)
    ]
    ranks = {tag.index: rank for rank, tag in enumerate(tags.tags)}
    edges = sorted({edge for start, end, _ in spans for edge in (start, end)})
    pieces = []
    for start, end in itertools.pairwise(edges):
        heard = [span for begin, stop, span in spans if begin <= start and end <= stop]
        best_first = sorted(heard, key=lambda span: ranks.get(span.index, len(ranks)))
        lines = [_label(span).translate(_NO_MARKUP) for span in best_first]
        pieces.append((start, end, "\n".join(lines)))
    for text, alike in itertools.groupby(pieces, key=lambda piece: piece[2]):
        run = list(alike)
        if text:
            yield run[0][0], run[-1][1], text


def _label(span: TagSegment) -> str:
    """Never empty: an empty line would end a cue."""
    return _one_line(span.label) or _one_line(span.mid) or f"class {span.index}"


def _one_line(text: str) -> str:
    """Text in which nothing ends a field or a line; unprintable characters are gone."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _srt_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"
