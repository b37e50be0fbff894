"""The result of training, importable without TensorFlow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifier.bundles.bundle import Bundle

if TYPE_CHECKING:
    from classifier.training.loop import Result


@dataclass(frozen=True, eq=False)
class Fitted:
    """A finished or stopped training run.

    Attributes:
        results: one, or one per fold.
        bundle: of the best weights; None if training stopped before the first epoch ended.
    """

    results: Sequence[Result]
    bundle: Bundle | None

    @property
    def is_finished(self) -> bool:
        """Whether no training run was stopped from outside."""
        return all(result.is_finished for result in self.results)
