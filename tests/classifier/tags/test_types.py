"""Tagging results and their JSON form."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from classifier import ClipTags, FrameTags, Tag, TagSegment
from vggish.audio.mono import SILENCE
from vggish.errors import OptionError

DOG, RAIN = Tag("Dog", "/m/0bt9lr", 74, 0.93), Tag("Rain", "", 5, 1e-20)
CLIP = ClipTags(
    tags=(DOG, RAIN),
    frames=(FrameTags(0.0, (DOG, RAIN)), FrameTags(0.96, ())),
    segments=(TagSegment(0.0, 0.96, "Dog", "/m/0bt9lr", 74, 0.93),),
    duration_seconds=1.5,
    model={"name": "audioset", "head": "gru", "sha256": "ab"},
    embedder={"name": "mini"},
    warnings=("odd",),
    timings={"decode": 0.25},
)


def through_json(clip: ClipTags, **changes: Any) -> ClipTags:
    return ClipTags.from_json({**json.loads(json.dumps(clip.as_json())), **changes})


@pytest.mark.parametrize("without", [{}, {"frames": None}, {"frames": None, "segments": None}])
def test_write_then_read_round_trips(without: Any) -> None:
    clip = dataclasses.replace(CLIP, **without)
    found = through_json(clip, request_id="of a service", file="a.wav")
    assert found == clip
    assert found.timings == clip.timings
    assert found.as_json() == clip.as_json()


def test_missing_keys_take_their_defaults() -> None:
    found = CLIP.as_json()
    for key in ("frames", "segments", "warnings", "timings"):
        del found[key]
    assert ClipTags.from_json(found) == dataclasses.replace(
        CLIP, frames=None, segments=None, warnings=()
    )


def test_comparison_ignores_timings() -> None:
    assert dataclasses.replace(CLIP, timings={}) == CLIP
    assert dataclasses.replace(CLIP, warnings=()) != CLIP


def test_silence_is_detected_from_its_warning() -> None:
    assert through_json(dataclasses.replace(CLIP, warnings=(SILENCE,))).is_silent
    assert not CLIP.is_silent


@pytest.mark.parametrize(
    "changes",
    [
        {"tags": None},
        {"tags": "Dog"},
        {"tags": ["Dog"]},
        {"tags": [{"label": "Dog"}]},
        {"tags": [{**DOG.as_json(), "score": "high"}]},
        {"tags": [{**DOG.as_json(), "index": float("inf")}]},
        {"frames": [{"tags": []}]},
        {"frames": 3},
        {"segments": [DOG.as_json()]},
        {"duration_seconds": None},
        {"duration_seconds": []},
        {"model": "audioset"},
        {"timings": [1]},
    ],
)
def test_invalid_values_are_rejected(changes: Any) -> None:
    with pytest.raises(
        OptionError, match=r"not a JSON document of ClipTags \(\w+: .*Received: {'tags'"
    ):
        through_json(CLIP, **changes)


@pytest.mark.parametrize("answer", [None, [], "text", {"title": "not found"}])
def test_other_documents_are_rejected(answer: Any) -> None:
    with pytest.raises(OptionError, match="not a JSON document of ClipTags"):
        ClipTags.from_json(answer)
