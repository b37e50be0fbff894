"""Label tracks, checked with independent parsers."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from classifier.output.label_tracks import as_audacity, as_raven, as_srt, raven_header
from classifier.tags.types import ClipTags, Tag, TagSegment
from vggish.audio.mono import SILENCE
from vggish.errors import OptionError

Span = tuple[float, float, str]

# Characters with a special meaning in some format.
ODD = [
    "a\tb",
    "c\nd",
    "e\r\nf",
    "<i>g</i>",
    "{\\an8}h",
    "1 --> 2",
    '"q"',
    "é 犬",
    "\x1b[2J",
    "\u2028x",
]


def clip(*spans: Span, **changes: Any) -> ClipTags:
    """Make tags in order of their first spans."""
    names = list(dict.fromkeys(label for _, _, label in spans))
    tags = tuple(Tag(name, f"/m/{i}", i, 0.9 - i / 100) for i, name in enumerate(names))
    segments = tuple(
        TagSegment(start, end, label, f"/m/{names.index(label)}", names.index(label), 0.5)
        for name in names
        for start, end, label in sorted(spans)
        if label == name
    )
    model = {"name": "tiny"}
    return replace(ClipTags(tags, None, segments, 60.0, model, {"name": "mini"}), **changes)


def seconds(text: str) -> float:
    hours, minutes, rest, milliseconds = re.fullmatch(
        r"(\d\d+):(\d\d):(\d\d),(\d{3})", text
    ).groups()  # type: ignore[union-attr]
    return int(hours) * 3600 + int(minutes) * 60 + int(rest) + int(milliseconds) / 1000


def read_srt(text: str) -> list[tuple[float, float, list[str]]]:
    """Parse strictly: cues numbered from 1, in order, neither overlapping nor empty."""
    cues, end_before = [], 0.0
    for number, block in enumerate(re.split(r"\n\n", text.removesuffix("\n")), 1):
        if not block:
            continue
        count, times, *lines = block.split("\n")
        start, end = map(seconds, times.split(" --> "))
        assert int(count) == number
        assert end_before <= start < end
        assert lines
        assert all(line.strip() for line in lines)
        end_before = end
        cues.append((start, end, lines))
    return cues


def read_audacity(text: str) -> list[Span]:
    spans = []
    for line in text.split("\n")[:-1]:
        start, end, label = line.split("\t")
        spans.append((float(start), float(end), label))
    return spans


def read_raven(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))


def test_overlapping_segments_are_cut_into_cues() -> None:
    tags = clip((0.0, 5.0, "Speech"), (1.92, 2.88, "Dog"), (2.88, 3.84, "Dog"), (7.0, 8.0, "Dog"))
    assert as_srt(tags) == (
        "1\n00:00:00,000 --> 00:00:01,920\nSpeech\n\n"
        "2\n00:00:01,920 --> 00:00:03,840\nSpeech\nDog\n\n"
        "3\n00:00:03,840 --> 00:00:05,000\nSpeech\n\n"
        "4\n00:00:07,000 --> 00:00:08,000\nDog\n"
    )


def test_cue_lists_the_best_tag_first() -> None:
    tags = clip((3.0, 9.0, "Best"), (0.0, 9.0, "Second"))
    assert [lines for _, _, lines in read_srt(as_srt(tags))] == [["Second"], ["Best", "Second"]]


def test_times_over_an_hour_include_hours() -> None:
    tags = clip((3599.9996, 360_000.5, "Rain"))
    assert "01:00:00,000 --> 100:00:00,500" in as_srt(tags)


def test_audacity_track_has_one_line_per_segment_in_time_order() -> None:
    tags = clip((1.92, 2.88, "Dog"), (4.8, 5.0, "Dog"), (0.0, 5.0, "Speech, male"))
    assert as_audacity(tags) == (
        "0.000000\t5.000000\tSpeech, male\n1.920000\t2.880000\tDog\n4.800000\t5.000000\tDog\n"
    )


def test_raven_table_has_one_selection_per_segment() -> None:
    tags = clip((1.92, 2.88, "Dog"), (0.0, 5.0, "Speech"))
    first, second = read_raven(raven_header() + as_raven("d/a.wav", tags))
    assert first == {
        "Selection": "1", "View": "Spectrogram 1", "Channel": "1",
        "Begin Time (s)": "0.000000", "End Time (s)": "5.000000",
        "Low Freq (Hz)": "125.0", "High Freq (Hz)": "7500.0",
        "Begin File": "a.wav", "Begin Path": "d/a.wav", "File Offset (s)": "0.000000",
        "Label": "Speech", "MID": "/m/1", "Score": "0.5",
    }  # fmt: skip
    assert (second["Selection"], second["File Offset (s)"]) == ("2", "1.920000")


def test_selections_end_at_half_the_sample_rate() -> None:
    tags = clip((0.0, 1.0, "Dog"))
    for rate, high in ((8_000, 4000.0), (44_100, 7500.0), (None, 7500.0)):
        (row,) = read_raven(raven_header() + as_raven("a.wav", tags, sample_rate_hz=rate))
        assert float(row["High Freq (Hz)"]) == high


def test_raven_table_of_several_files_has_sequence_and_file_times() -> None:
    tags = clip((1.0, 2.0, "Dog"))
    (row,) = read_raven(
        raven_header() + as_raven("b.wav", tags, first_selection=8, begin_seconds=60.5)
    )
    assert (row["Selection"], row["Begin Time (s)"], row["End Time (s)"]) == (
        "8", "61.500000", "62.500000",
    )  # fmt: skip
    assert row["File Offset (s)"] == "1.000000"


@pytest.mark.parametrize("label", [*ODD, "\x07"])
def test_unusual_labels_are_valid_in_every_format(label: str) -> None:
    tags = clip((0.0, 1.0, label), (1.0, 2.0, "Dog"))
    (_, _, [line]), (_, _, dog) = read_srt(as_srt(tags))
    assert not set(line) & set("<>{}\x1b")
    assert dog == ["Dog"]
    spans = read_audacity(as_audacity(tags))
    rows = read_raven(raven_header() + as_raven(f"{label}.wav", tags))
    assert [span[2] for span in spans] == [row["Label"] for row in rows]
    assert spans[1] == (1.0, 2.0, "Dog")
    assert all(spans[0][2].strip() for _ in rows)
    assert all(None not in row and len(row) == 13 for row in rows)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 40), st.integers(1, 9), st.sampled_from(["Speech", "Dog", "Rain", "<b>"])
        ),
        max_size=12,
    )
)
def test_all_formats_have_the_same_segments_at_each_time(
    drawn: list[tuple[int, int, str]],
) -> None:
    # Spans of one label do not touch, as in the output of a tagger.
    spans: list[Span] = []
    for start, length, label in sorted(drawn):
        if all(end < start for _, end, other in spans if other == label):
            spans.append((start, start + length, label))
    tags = clip(*spans)
    cues = read_srt(as_srt(tags))
    rows = read_raven(raven_header() + as_raven("a.wav", tags))
    tables = [
        read_audacity(as_audacity(tags)),
        [(float(r["Begin Time (s)"]), float(r["End Time (s)"]), r["Label"]) for r in rows],
    ]
    for tenths in range(5, 520, 10):
        at = tenths / 10
        expected = {label for start, end, label in spans if start <= at < end}
        shown = [line for start, end, lines in cues if start <= at < end for line in lines]
        assert sorted(shown) == sorted(label.replace("<b>", "\u2039b\u203a") for label in expected)
        for table in tables:
            assert {label for start, end, label in table if start <= at < end} == expected
    for table in tables:
        assert table == sorted(table, key=lambda span: span[0])


def test_ffmpeg_reads_the_subtitles(tmp_path: Path) -> None:
    ffmpeg = shutil.which("ffmpeg") or pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    tags = clip((0.0, 5.0, "Speech, <i>male</i>"), (1.92, 2.88, "é 犬"), (7.0, 3600.5, "Dog"))
    (tmp_path / "a.srt").write_text(as_srt(tags), "utf-8")
    command = [ffmpeg, "-v", "error", "-i", tmp_path / "a.srt", "-f", "webvtt", "-"]
    done = subprocess.run(command, capture_output=True, check=True)
    assert done.stderr == b""
    cues = re.findall(r"([\d:.]+) --> ([\d:.]+)\n((?:.+\n)+)", done.stdout.decode() + "\n")
    assert [(start, end, text.split("\n")[:-1]) for start, end, text in cues] == [
        ("00:00.000", "00:01.920", ["Speech, \u2039i\u203amale\u2039/i\u203a"]),
        ("00:01.920", "00:02.880", ["Speech, \u2039i\u203amale\u2039/i\u203a", "é 犬"]),
        ("00:02.880", "00:05.000", ["Speech, \u2039i\u203amale\u2039/i\u203a"]),
        ("00:07.000", "01:00:00.500", ["Dog"]),
    ]


def test_silence_gives_an_empty_track() -> None:
    tags = clip((0.0, 1.0, "Speech"), warnings=(SILENCE,))
    assert as_srt(tags) == as_audacity(tags) == as_raven("a.wav", tags) == ""


def test_tags_without_segments_are_rejected() -> None:
    for write in (as_srt, as_audacity, lambda tags: as_raven("a.wav", tags)):
        with pytest.raises(OptionError, match="'tiny' scores whole clips only"):
            write(clip(segments=None))
