"""Select tags from scores: by rank, score and class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from classifier.labels import Labels
from classifier.tags.types import Tag
from vggish.errors import OptionError

DEFAULT_TOP_K = 10
Indices = npt.NDArray[np.intp]


class ChoiceOptions(TypedDict, total=False):
    """Keyword arguments of functions that select tags; see `Choice`."""

    top_k: int | None
    threshold: float
    labels: Sequence[str] | None
    exclude_labels: Sequence[str] | None


@dataclass(frozen=True)
class Choice:
    """Options that select tags: those of `Tagger.tag`. Raises an `OptionError` for bad values."""

    top_k: int | None = DEFAULT_TOP_K
    threshold: float = 0.0
    labels: Sequence[str] | None = None
    exclude_labels: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.top_k is not None and self.top_k < 1:
            raise OptionError(f"top_k must be at least 1. Received: {self.top_k}")
        if not 0 <= self.threshold <= 1:
            raise OptionError(f"threshold must be from 0 to 1. Received: {self.threshold}")
        for name in ("labels", "exclude_labels"):
            labels = getattr(self, name)
            if isinstance(labels, str):
                raise OptionError(f"{name} must be a list of names. Received: {labels!r}")
            object.__setattr__(self, name, None if labels is None else tuple(labels))

    def classes(self, known: Labels) -> Indices | None:
        """Indices of the selected classes among `known`, ascending; None for all.

        Raises an `OptionError` if a label is unknown, or no class is left.
        """
        if self.labels is None and not self.exclude_labels:
            return None
        chosen = set(range(len(known)))
        if self.labels is not None:
            chosen = {known.index_of(label) for label in self.labels}
        chosen -= {known.index_of(label) for label in self.exclude_labels or ()}
        if not chosen:
            given = (
                "none" if labels is None else repr(list(labels))[:100]
                for labels in (self.labels, self.exclude_labels)
            )
            raise OptionError(
                f"labels and exclude_labels leave no class. Received: {' and '.join(given)}"
            )
        return np.array(sorted(chosen), np.intp)

    def tags(self, scores: npt.NDArray[np.float32], known: Labels) -> list[tuple[Tag, ...]]:
        """Select the tags of each clip or frame, best first: float32 [B, C] -> B tuples."""
        best = top_indices(scores, self.top_k, self.classes(known))
        values = np.take_along_axis(scores, best, axis=1)
        # The shortest decimal numbers that round to the float32.
        shortest = values.astype(str).astype(np.float64)
        is_high = values >= self.threshold
        rows = zip(best.tolist(), shortest.tolist(), is_high.tolist(), strict=True)
        return [
            tuple(
                Tag(known.names[index], known.mids[index], index, score)
                for index, score, is_tag in zip(*row, strict=True)
                if is_tag
            )
            for row in rows
        ]


def top_indices(
    scores: npt.NDArray[np.float32], top_k: int | None, classes: Indices | None = None
) -> Indices:
    """Indices of the highest scores, [B, C] -> [B, min(top_k, C)]; ties go to the lower index.

    `classes` are ascending indices of the classes to consider; None for all.
    """
    among = scores if classes is None else scores[:, classes]
    best: Indices = np.argsort(-among, axis=1, kind="stable")[:, :top_k]
    return best if classes is None else classes[best]
