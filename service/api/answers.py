"""Answers as JSON: what a tagger found, as much of it as was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from classifier.tags.types import Tags
from service.api.schemas import ClassifyOptions
from vggish.frames.clip import ClipFrames

# A score of 0.12345 is known no better than that.
_DIGITS = 6


def classified(
    tags: Tags,
    options: ClassifyOptions,
    *,
    file_name: str | None,
    timings: Mapping[str, float],
    request_id: str,
) -> dict[str, Any]:
    """The answer to a sound, see `schemas.Classified`."""
    found = tags.as_json()
    return {
        "file": file_name,
        "tags": found["tags"],
        "frames": found["frames"] if options.frames else None,
        "segments": found["segments"] if options.segments else None,
        "tracks": _tracks(tags) if options.tracks else None,
        "duration_seconds": found["duration_seconds"],
        "model": found["model"],
        "embedder": found["embedder"],
        "warnings": found["warnings"],
        "timings": {name: round(seconds, _DIGITS) for name, seconds in timings.items()},
        "request_id": request_id,
    }


def embedded(clip: ClipFrames) -> dict[str, Any]:
    """The frames of a sound, see `schemas.Embedded`."""
    return {
        "clip": clip.clip_id,
        "start_seconds": clip.start_seconds.tolist(),
        "frames": clip.frames.tolist(),
        "metadata": clip.metadata,
    }


def _tracks(tags: Tags) -> dict[str, Any] | None:
    if tags.frame_scores is None:
        return None
    scores = tags.frame_scores.astype(np.float64).round(_DIGITS)
    return {
        "start_seconds": tags.start_seconds.tolist(),
        "tags": [{**tag.as_json(), "scores": scores[:, tag.index].tolist()} for tag in tags.tags],
    }
