"""Results of tagging: the tags of a clip, of its frames, and when each class is detected.

A `Tagger` and a client of the service return the same types. Their JSON form (`as_json`,
`from_json`) is the one document of the command line, the HTTP service and the client.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from classifier.tags.document import NOT_IN_JSON, JsonDocument
from vggish.audio.mono import SILENCE
from vggish.errors import OptionError

Scores = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Tag(JsonDocument):
    """A class and its score.

    Attributes:
        label: name of the class.
        mid: AudioSet id of the class; empty if it has none.
        index: position of the class among the model's scores.
        score: the model's confidence, from 0 to 1.
    """

    label: str
    mid: str
    index: int
    score: float


@dataclass(frozen=True)
class FrameTags(JsonDocument):
    """Tags of one frame of 0.96 s.

    Attributes:
        start_seconds: start of the frame.
        tags: best first.
    """

    start_seconds: float
    tags: tuple[Tag, ...]


@dataclass(frozen=True)
class TagSegment(JsonDocument):
    """A span of time in which a class is detected.

    Attributes:
        start_seconds: start of the first frame.
        end_seconds: end of the last frame.
        label: name of the class.
        mid: AudioSet id of the class; empty if it has none.
        index: position of the class among the model's scores.
        score: highest score of the frames.
    """

    start_seconds: float
    end_seconds: float
    label: str
    mid: str
    index: int
    score: float


@dataclass(frozen=True)
class ClipTags(JsonDocument):
    """Tags of one clip.

    Attributes:
        tags: tags of the whole clip, best first.
        frames: tags of each frame; None if not requested, or if the model scores whole clips only.
        segments: when each of `tags` is detected, in the order of `tags`, then by time; None as
            for `frames`. A class is detected in a frame that has at least half of its highest
            score in the clip.
        duration_seconds: duration of the audio.
        model: name, head and sha256 of the bundle.
        embedder: name and checksums of the embedder; only the name if no more is known.
        warnings: sentences about anything unusual in the audio.
        timings: seconds spent in each stage ("decode", "front_end", "embed", "head"), as far as
            they are known. Stages overlap in long audio. Ignored when clips are compared.
    """

    tags: tuple[Tag, ...]
    frames: tuple[FrameTags, ...] | None
    segments: tuple[TagSegment, ...] | None
    duration_seconds: float
    model: Mapping[str, str]
    embedder: Mapping[str, str]
    warnings: tuple[str, ...] = ()
    timings: Mapping[str, float] = field(default_factory=dict, compare=False)

    @property
    def is_silent(self) -> bool:
        """Whether the audio is silent."""
        return SILENCE in self.warnings


def in_time_order(tags: ClipTags) -> list[TagSegment]:
    """The segments of a clip by start, then by rank of the tag; none for silence.

    Raises an `OptionError` if the model scores whole clips only.
    """
    if tags.segments is None:
        raise OptionError(
            f"the model {tags.model.get('name', '')!r} scores whole clips only, so it cannot say "
            "when a sound occurs; use another model, or the table format"
        )
    return [] if tags.is_silent else sorted(tags.segments, key=lambda span: span.start_seconds)


@dataclass(frozen=True)
class LiveTags(JsonDocument):
    """Tags of one frame of 0.96 s of a live stream, best first."""

    start_seconds: float
    tags: tuple[Tag, ...]  # of this frame, scored in the context of the frames before it
    # Of this frame and those before it, as many as a training clip has (10 s for AudioSet).
    clip_tags: tuple[Tag, ...]


@dataclass(frozen=True, kw_only=True)
class Tags(ClipTags):
    """Tags of one clip, with the scores of all classes. The scores are not part of the JSON.

    Attributes:
        scores: clip scores of all classes, float32 [C].
        frame_scores: scores of all classes in each frame, float32 [n, C], or None.
        start_seconds: start of each frame, float64 [n].
    """

    scores: Scores = field(compare=False, metadata=NOT_IN_JSON)
    frame_scores: Scores | None = field(compare=False, metadata=NOT_IN_JSON)
    start_seconds: npt.NDArray[np.float64] = field(compare=False, metadata=NOT_IN_JSON)
