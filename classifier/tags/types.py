"""What is heard in a clip: its tags, those of its frames, and when each is heard.

The same whether a `Tagger` says so here or a service elsewhere: `ClipTags.as_json` is what is
written and sent, `ClipTags.from_json` reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from vggish.audio.mono import SILENCE
from vggish.errors import OptionError

Scores = npt.NDArray[np.float32]

_Item = TypeVar("_Item")


@dataclass(frozen=True)
class Tag:
    """A class and how sure the head is of it.

    Attributes:
        label: name of the class.
        mid: its AudioSet id, "" where there is none.
        index: its place among the scores.
        score: in [0, 1].
    """

    label: str
    mid: str
    index: int
    score: float

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        return {"label": self.label, "mid": self.mid, "index": self.index, "score": self.score}


@dataclass(frozen=True)
class FrameTags:
    """What is heard in one frame.

    Attributes:
        start_seconds: where its 0.96 s of sound begin.
        tags: the best first.
    """

    start_seconds: float
    tags: tuple[Tag, ...]

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        tags = [tag.as_json() for tag in self.tags]
        return {"start_seconds": self.start_seconds, "tags": tags}


@dataclass(frozen=True)
class TagSegment:
    """A span of time in which a tag is heard.

    Attributes:
        start_seconds: where its first frame begins.
        end_seconds: where its last frame ends.
        label, mid, index: of the tag.
        score: the highest of its frames.
    """

    start_seconds: float
    end_seconds: float
    label: str
    mid: str
    index: int
    score: float

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        return {
            "start_seconds": self.start_seconds,
            "end_seconds": self.end_seconds,
            "label": self.label,
            "mid": self.mid,
            "index": self.index,
            "score": self.score,
        }


@dataclass(frozen=True)
class ClipTags:
    """What is heard in one clip.

    Attributes:
        tags: of the whole clip, the best first.
        frames: of each frame; None if the head scores whole clips only, or if nobody asked.
        segments: when each of `tags` is heard, the best tag first, then by time; None as `frames`.
            A tag is heard where the score of a frame is at least half of its highest.
        duration_seconds: of the sound.
        model: name, head and sha256 of the bundle.
        embedder: what made the frames; only a name if more is not known.
        warnings: sentences about what is odd about the sound.
        timings: seconds spent on "decode", "front_end", "embed" and "head", as far as they are
            known. Clips with other timings are equal.
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
        """Whether there is nothing to hear in the sound."""
        return SILENCE in self.warnings

    def as_json(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        frames = None if self.frames is None else [frame.as_json() for frame in self.frames]
        segments = None if self.segments is None else [span.as_json() for span in self.segments]
        return {
            "tags": [tag.as_json() for tag in self.tags],
            "frames": frames,
            "segments": segments,
            "duration_seconds": self.duration_seconds,
            "model": dict(self.model),
            "embedder": dict(self.embedder),
            "warnings": list(self.warnings),
            "timings": dict(self.timings),
        }

    @staticmethod
    def from_json(answer: Mapping[str, Any]) -> ClipTags:
        """What `as_json` gave, perhaps on another machine; further keys do not matter.

        Raises:
            OptionError: it is no such thing.
        """
        try:
            return ClipTags(
                tags=tuple(map(_tag, answer["tags"])),
                frames=_all(_frame, answer.get("frames")),
                segments=_all(_segment, answer.get("segments")),
                duration_seconds=float(answer["duration_seconds"]),
                model={str(key): str(value) for key, value in answer["model"].items()},
                embedder={str(key): str(value) for key, value in answer["embedder"].items()},
                warnings=_all(str, answer.get("warnings")) or (),
                timings={str(k): float(v) for k, v in (answer.get("timings") or {}).items()},
            )
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise OptionError(
                f"these are not the tags of a clip ({type(error).__name__}: {error}). Received: "
                f"{repr(answer)[:200]}"
            ) from error


def _all(make: Callable[[Any], _Item], found: Iterable[Any] | None) -> tuple[_Item, ...] | None:
    return None if found is None else tuple(map(make, found))


def _tag(found: Mapping[str, Any]) -> Tag:
    return Tag(str(found["label"]), str(found["mid"]), int(found["index"]), float(found["score"]))


def _frame(found: Mapping[str, Any]) -> FrameTags:
    return FrameTags(float(found["start_seconds"]), tuple(map(_tag, found["tags"])))


def _segment(found: Mapping[str, Any]) -> TagSegment:
    tag = _tag(found)
    return TagSegment(
        start_seconds=float(found["start_seconds"]),
        end_seconds=float(found["end_seconds"]),
        label=tag.label,
        mid=tag.mid,
        index=tag.index,
        score=tag.score,
    )


def in_time_order(tags: ClipTags) -> list[TagSegment]:
    """When tags are heard, by time; at one time the best tag first. None in silence.

    Raises:
        OptionError: the tags have no times.
    """
    if tags.segments is None:
        raise OptionError(
            f"the model {tags.model.get('name', '')!r} scores whole sounds only, and so it is not "
            "known when something is heard; use another model, or the table"
        )
    return [] if tags.is_silent else sorted(tags.segments, key=lambda span: span.start_seconds)


@dataclass(frozen=True)
class LiveTags:
    """What is heard in one frame of a live sound.

    Attributes:
        start_seconds: where its 0.96 s of sound begin.
        tags: of this frame, judged with the frames before it; the best first.
        clip_tags: of all these frames together, as many as the clips had that the head was
            trained on (10 s for AudioSet's).
    """

    start_seconds: float
    tags: tuple[Tag, ...]
    clip_tags: tuple[Tag, ...]

    def as_json(self) -> dict[str, Any]:
        """In the words of all outputs."""
        return {
            "start_seconds": self.start_seconds,
            "tags": [tag.as_json() for tag in self.tags],
            "clip_tags": [tag.as_json() for tag in self.clip_tags],
        }


@dataclass(frozen=True, kw_only=True)
class Tags(ClipTags):
    """What is heard in one clip, with the scores of all classes.

    Attributes:
        scores: of all classes, float32 [C].
        frame_scores: of all classes in each frame, float32 [n, C], or None.
        start_seconds: where each frame begins, float64 [n].
    """

    scores: Scores = field(compare=False)
    frame_scores: Scores | None = field(compare=False)
    start_seconds: npt.NDArray[np.float64] = field(compare=False)
