from __future__ import annotations

import csv
import io
import json
from typing import Any

import numpy as np
import pytest

from classifier.output.rows import as_csv, as_json, csv_header
from classifier.output.table import TableStyle, as_table
from classifier.tags.segments import find_segments
from classifier.tags.types import ClipTags, FrameTags, Tag
from vggish.audio.mono import SILENCE

LABELS = ("Dog", "Siren, and what is like one of them", "犬の鳴き声", "Evil\x1b[2J\nlabel")
PLAIN = TableStyle(unicode=False)


def made_tags(
    n_frames: int = 8, scores: tuple[float, ...] = (0.93, 0.5, 0.042, 0.0001), **changes: Any
) -> ClipTags:
    tags = tuple(
        Tag(label, f"/m/{index}", index, score)
        for index, (label, score) in enumerate(zip(LABELS, scores, strict=False))
    )
    frame_scores = np.full((n_frames, 4), 0.2, np.float32)
    frame_scores[1:3, 1] = frame_scores[5:6, 1] = 0.8
    return of_frames(tags, frame_scores, **changes)


def of_frames(tags: tuple[Tag, ...], frame_scores: Any, **changes: Any) -> ClipTags:
    starts = np.round(np.arange(len(frame_scores)) * 0.96, 6)
    duration_seconds = len(starts) * 0.96
    values: dict[str, Any] = {
        "tags": tags,
        "frames": tuple(FrameTags(float(start), tags[:1]) for start in starts),
        "segments": find_segments(tags, frame_scores, starts, duration_seconds),
        "duration_seconds": duration_seconds,
        "model": {"name": "made"},
        "embedder": {"name": "vggish"},
    }
    return ClipTags(**{**values, **changes})


def test_table_has_one_line_per_tag_with_bar_percentage_and_times() -> None:
    assert as_table("a.wav", made_tags(), PLAIN) == [
        "a.wav  7.7 s",
        "  Dog                           ###################.    93 %  throughout",
        "  Siren, and what is like o...  ##########..........    50 %  1.0-2.9, 4.8-5.8 s",
        "  犬の鳴き声                    #...................   4.2 %  throughout",
        "  Evil\\x1b[2J\\nlabel            ....................  <0.1 %  throughout",
    ]


def test_table_fits_the_terminal() -> None:
    many = np.zeros((2000, 4), np.float32)
    many[::3] = 1
    tags = of_frames(made_tags().tags, many, duration_seconds=7500.0)
    for width in (60, 80, 120):
        lines = as_table("long/" * 40, tags, TableStyle(width=width))
        assert max(len(line) for line in lines[:3]) <= width
        assert lines[0].endswith("…  2:05:00")
    assert "0:00-0:01, 0:02-0:04" in lines[1]
    assert lines[1].endswith(" more")


def test_bars_use_eighths_of_block_characters() -> None:
    lines = as_table("a", made_tags(), TableStyle())
    assert "███████████████████" in lines[1] or "██████████████████▋" in lines[1]
    assert "  ██████████            " in lines[2]


def test_colours_are_optional() -> None:
    assert "\033" not in "".join(as_table("a", made_tags(), TableStyle()))
    coloured = as_table("a", made_tags(), TableStyle(colour=True))
    assert coloured[0] == "\033[1ma\033[0m  7.7 s"
    assert all(line.count("\033[0m") == line.count("\033[") // 2 for line in coloured)


def test_short_clips_and_clip_level_heads_show_no_times() -> None:
    for tags in (made_tags(3), made_tags(segments=None, frames=None)):
        line = as_table("a", tags, PLAIN)[1]
        assert line.endswith("93 %")


def test_silence_and_missing_tags_are_stated() -> None:
    assert as_table("a", made_tags(warnings=(SILENCE,)), PLAIN)[1:] == ["  silence"]
    assert as_table("a", made_tags(scores=()), PLAIN)[1:] == ["  no tag reaches the threshold"]


@pytest.mark.parametrize("frames", [False, True])
def test_json_has_the_documented_keys(frames: bool) -> None:
    found = json.loads(json.dumps(as_json("a.wav", made_tags(), frames=frames)))
    expected = ["file", "duration_seconds", "model", "embedder", "tags", "frames", "warnings"]
    assert list(found) == [key for key in expected if frames or key != "frames"]
    assert found["tags"][0] == {"label": "Dog", "mid": "/m/0", "index": 0, "score": 0.93}


def test_csv_round_trip() -> None:
    text = csv_header() + as_csv("a,b.wav", made_tags())
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["label"] for row in rows] == list(LABELS)
    assert rows[0] == {
        "file": "a,b.wav", "label": "Dog", "mid": "/m/0", "index": "0", "score": "0.93",
    }  # fmt: skip
    text = csv_header(frames=True) + as_csv("a.wav", made_tags(), frames=True)
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [float(row["start_seconds"]) for row in rows] == [i * 0.96 for i in range(8)]
