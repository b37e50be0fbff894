"""Format the segments of tags as label tracks for players, Audacity and Raven.

    srt       SubRip subtitles; sounds at the same time make one cue
    audacity  Audacity label track: start, end and label, one segment per line
    raven     Raven Pro selection table: one segment per row

Segments are in the order of time; silence has none.

Sources: SubRip as players read it (cues in order, without overlaps); the Audacity manual,
"Importing and Exporting Labels"; the Raven Pro 1.4 user's manual, chapter 6.
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

# Markup characters of SubRip cues, and harmless look-alikes.
_NO_MARKUP = str.maketrans("<>{}", "\u2039\u203a()")


def as_srt(tags: ClipTags) -> str:
    r"""SubRip cues with a line for each class detected, best tag first.

    Overlapping segments are cut, because players show one cue at a time. Markup in labels (`<i>`,
    `{\an8}`) is replaced by look-alikes.
    """
    cues = [
        f"{number}\n{_srt_time(start)} --> {_srt_time(end)}\n{text}\n"
        for number, (start, end, text) in enumerate(_cues(tags), 1)
    ]
    return "\n".join(cues)


def as_audacity(tags: ClipTags) -> str:
    """An Audacity label track: a line `start TAB end TAB label` for each segment."""
    return "".join(
        f"{span.start_seconds:.6f}\t{span.end_seconds:.6f}\t{_label(span)}\n"
        for span in in_time_order(tags)
    )


def raven_header() -> str:
    """The header line of a Raven selection table."""
    return "\t".join(RAVEN_COLUMNS) + "\n"


def as_raven(
    path: str,
    tags: ClipTags,
    *,
    sample_rate_hz: float | None = None,
    first_selection: int = 1,
    begin_seconds: float = 0.0,
) -> str:
    """Rows of a Raven Pro selection table, one for each segment, over the model's frequency range.

    Selections end at half of the audio file's `sample_rate_hz`. `begin_seconds` is the start of the
    clip in the sequence of files of the table: Begin Time and End Time count from the first file,
    File Offset from this one.
    """
    high_hz = MEL_MAX_HZ if sample_rate_hz is None else min(MEL_MAX_HZ, sample_rate_hz / 2)
    rows = [
        (
            *(number, "Spectrogram 1", 1),
            f"{begin_seconds + span.start_seconds:.6f}",
            f"{begin_seconds + span.end_seconds:.6f}",
            *(f"{MEL_MIN_HZ:.1f}", f"{high_hz:.1f}"),
            *(_one_line(PurePath(path).name), _one_line(path), f"{span.start_seconds:.6f}"),
            *(_label(span), _one_line(span.mid), span.score),
        )
        for number, span in enumerate(in_time_order(tags), first_selection)
    ]
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def _cues(tags: ClipTags) -> Iterator[tuple[int, int, str]]:
    """Start and end in milliseconds and text of cues: in order, disjoint, each with new text."""
    spans = [
        (round(span.start_seconds * 1000), round(span.end_seconds * 1000), span)
        for span in in_time_order(tags)
    ]
    ranks = {tag.index: rank for rank, tag in enumerate(tags.tags)}
    edges = sorted({edge for start, end, _ in spans for edge in (start, end)})
    pieces = []
    for start, end in itertools.pairwise(edges):
        active = [span for begin, stop, span in spans if begin <= start and end <= stop]
        active.sort(key=lambda span: ranks.get(span.index, len(ranks)))
        text = "\n".join(_label(span).translate(_NO_MARKUP) for span in active)
        pieces.append((start, end, text))
    for text, group in itertools.groupby(pieces, key=lambda piece: piece[2]):
        same = list(group)
        if text:
            yield same[0][0], same[-1][1], text


def _label(span: TagSegment) -> str:
    """A label that is not empty, as an empty line ends a cue."""
    return _one_line(span.label) or _one_line(span.mid) or f"class {span.index}"


def _one_line(text: str) -> str:
    """Text without unprintable characters, tabs and line breaks."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _srt_time(milliseconds: int) -> str:
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02},{rest:03}"
