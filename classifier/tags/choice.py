"""Which tags are wanted: how many, how sure, of which classes."""

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
    """What of all scores becomes tags.

    Attributes:
        top_k: at most so many tags, of a clip and of each of its frames; None for all classes.
        threshold: only tags with at least this score.
        labels: only these classes, by name or mid in any case; None for all.
        exclude_labels: none of these classes.

    Raises:
        OptionError: top_k is less than 1, threshold is not in [0, 1], or the labels are no list
            of names.
    """

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
        """Indices of the classes that tags may be of, ascending; None for all.

        Raises:
            OptionError: a label is not among the known, the message has names that are close; or
                no class is left.
        """
        if self.labels is None and not self.exclude_labels:
            return None
        chosen = set(range(len(known)))
        if self.labels is not None:
            chosen = {known.index_of(label) for label in self.labels}
        chosen -= {known.index_of(label) for label in self.exclude_labels or ()}
        if not chosen:
            raise OptionError(
                f"labels and exclude_labels leave no class. Received: {_shown(self.labels)} and "
                f"{_shown(self.exclude_labels)}"
            )
        return np.array(sorted(chosen), np.intp)

    def tags(self, scores: npt.NDArray[np.float32], known: Labels) -> list[tuple[Tag, ...]]:
        """The tags of each clip or frame, scores float32 [B, C] -> B tuples, best first.

        Raises:
            OptionError: see `classes`.
        """
        return top_tags(scores, known, self.top_k, self.threshold, self.classes(known))


def top_indices(
    scores: npt.NDArray[np.float32], top_k: int | None, classes: Indices | None = None
) -> Indices:
    """Classes with the highest scores, [B, C] -> [B, min(top_k, C)]; ties by the lower index.

    Args:
        scores: float32 [B, C].
        top_k: at most so many; None for all.
        classes: ascending indices of those that count; None for all C.
    """
    among = scores if classes is None else scores[:, classes]
    best: Indices = np.argsort(-among, axis=1, kind="stable")[:, :top_k]
    return best if classes is None else classes[best]


def top_tags(
    scores: npt.NDArray[np.float32],
    labels: Labels,
    top_k: int | None = None,
    threshold: float = 0.0,
    classes: Indices | None = None,
) -> list[tuple[Tag, ...]]:
    """The best tags of each clip or frame, scores float32 [B, C] -> B tuples, best first."""
    best = top_indices(scores, top_k, classes)
    values = np.take_along_axis(scores, best, axis=1)
    # The shortest numbers that give the float32 back.
    shortest = values.astype(str).astype(np.float64)
    wanted = zip(best.tolist(), shortest.tolist(), (values >= threshold).tolist(), strict=True)
    return [
        tuple(
            Tag(labels.names[index], labels.mids[index], index, score)
            for index, score, is_high in zip(*row, strict=True)
            if is_high
        )
        for row in wanted
    ]


def _shown(labels: Sequence[str] | None) -> str:
    return "none" if labels is None else repr(list(labels))[:100]
