"""The scores of a clip's tags over time: what a heat map shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.tags.types import Tags


@dataclass(frozen=True, eq=False)
class TagTracks:
    """Scores of the tags of a clip in each of its frames.

    Attributes:
        start_seconds: float64 [n], ascending, where each frame begins.
        scores: float32 [n, k] in [0, 1], a column for each of the clip's k tags, in their order.
    """

    start_seconds: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float32]

    @staticmethod
    def of(tags: Tags) -> TagTracks | None:
        """The tracks of what a tagger said; None if the head scores whole clips only."""
        if tags.frame_scores is None:
            return None
        chosen = [tag.index for tag in tags.tags]
        return TagTracks(tags.start_seconds, tags.frame_scores[:, chosen])

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> TagTracks:
        """What a service says: `{"start_seconds": [n], "tags": [{..., "scores": [n]}]}`.

        Raises:
            OptionError: it is no such thing.
        """
        try:
            starts = np.asarray(found["start_seconds"], np.float64)
            columns = [np.asarray(tag["scores"], np.float32) for tag in found["tags"]]
            shapes = {column.shape for column in columns}
        except (KeyError, TypeError, ValueError) as error:
            raise OptionError(f"these are no tracks of tags: {error!r}") from error
        if starts.ndim != 1 or not shapes <= {starts.shape}:
            raise OptionError(
                f"tracks of {len(starts)} frames need as many scores of each tag. "
                f"Received: {sorted(shapes)}"
            )
        scores = np.stack(columns, axis=1) if columns else np.zeros((len(starts), 0), np.float32)
        return TagTracks(starts, scores)
