"""Scores of a clip's tags over time: the data of a heat map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from classifier.tags.document import JsonDocument
from classifier.tags.types import Tag, Tags
from vggish.errors import OptionError


@dataclass(frozen=True)
class TagTrack(Tag):
    """A tag of the whole clip, and the score of its class in each frame."""

    scores: tuple[float, ...]


@dataclass(frozen=True)
class TagTracks(JsonDocument):
    """Scores of the tags of a clip, best first, in each of its n frames, whose starts ascend.

    Raises an `OptionError` if a tag has more or fewer than n scores.
    """

    start_seconds: tuple[float, ...]
    tags: tuple[TagTrack, ...]

    def __post_init__(self) -> None:
        n_frames = len(self.start_seconds)
        if wrong := {len(track.scores) for track in self.tags} - {n_frames}:
            raise OptionError(
                f"each track must have {n_frames} scores, one a frame. Received: {sorted(wrong)}"
            )

    @property
    def scores(self) -> npt.NDArray[np.float32]:
        """The scores as an array, float32 [n, k], a column for each of the k tags."""
        rows = np.array([track.scores for track in self.tags], np.float32)
        scores: npt.NDArray[np.float32] = rows.reshape(len(self.tags), len(self.start_seconds)).T
        return scores

    @staticmethod
    def of(tags: Tags, decimals: int | None = None) -> TagTracks | None:
        """The tracks of a tagger's result; None if the head scores whole clips only.

        Scores are rounded to a number of decimals; None keeps them as they are.
        """
        if tags.frame_scores is None:
            return None
        scores = tags.frame_scores.astype(np.float64)
        if decimals is not None:
            scores = scores.round(decimals)
        return TagTracks(
            tuple(tags.start_seconds.tolist()),
            tuple(
                TagTrack(**vars(tag), scores=tuple(scores[:, tag.index].tolist()))
                for tag in tags.tags
            ),
        )
