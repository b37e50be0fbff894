"""The examples that a training loop learns from, and those made of clips of frames."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from classifier.frame_data.clip_store import ClipStore
from classifier.training.augment import augment, draw
from classifier.training.config import TrainingConfig
from vggish.frames.clip import Frames

Indices = npt.NDArray[np.int64]
LabelMatrix = npt.NDArray[np.bool_]


class Examples(Protocol):
    """Labelled examples to train or to validate on; an example is an array that begins with time.

    The training loop asks for nothing else, so it trains networks on any kind of input.
    """

    @property
    def ids(self) -> Sequence[str]:
        """The id of each example."""

    @property
    def labels(self) -> LabelMatrix:
        """The labels of all examples, bool [n, C]."""

    @property
    def longest(self) -> int:
        """The number of time steps of the longest example."""

    def __len__(self) -> int: ...

    def gather(
        self,
        positions: Indices,
        n_steps: int,
        sampling: str = "all",
        rng: np.random.Generator | None = None,
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32], LabelMatrix]:
        """Gather a batch of examples int [B], with T = `n_steps` time steps.

        A `sampling` other than "all" needs `rng`. Returns inputs [B, T, ...], lengths int32 [B] and
        labels bool [B, C].
        """

    def draw(
        self, config: TrainingConfig, batch_size: int, n_steps: int, rng: np.random.Generator
    ) -> Mapping[str, npt.NDArray[Any]]:
        """Draw the random choices of a batch's augmentation, outside the graph."""

    def augment(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Augment a batch, inside the graph: the inputs of the model, and labels float32 [B, C].

        The batch has the tensors `inputs`, `lengths`, `labels` (float32) and those of `draw`.
        """


@dataclass(frozen=True, eq=False)
class FrameExamples:
    """Clips of a store, by their indices int [n], as `Examples`.

    Raises a `FrameFileError` that names the clip if a label is not below `n_classes`.
    """

    store: ClipStore
    indices: Indices
    n_classes: int
    labels: LabelMatrix = field(init=False)

    def __post_init__(self) -> None:
        labels = self.store.label_matrix(self.indices, self.n_classes)
        object.__setattr__(self, "labels", labels)

    @property
    def ids(self) -> list[str]:
        """The id of each clip."""
        return [self.store.ids[index] for index in self.indices]

    @property
    def longest(self) -> int:
        """Frames of the longest clip of the store."""
        return self.store.longest

    def __len__(self) -> int:
        return len(self.indices)

    def gather(
        self,
        positions: Indices,
        n_steps: int | None = None,
        sampling: str = "all",
        rng: np.random.Generator | None = None,
    ) -> tuple[Frames, npt.NDArray[np.int32], LabelMatrix]:
        """Gather frames uint8 [B, T, 128], lengths and labels; see `Examples.gather`."""
        frames, lengths = self.store.gather(self.indices[positions], n_steps, sampling, rng)
        return frames, lengths, self.labels[positions]

    def draw(
        self, config: TrainingConfig, batch_size: int, n_steps: int, rng: np.random.Generator
    ) -> dict[str, npt.NDArray[Any]]:
        """Draw the choices of mixup and frame masking."""
        return draw(config, batch_size, n_steps, rng)

    def augment(self, batch: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
        """Apply mixup and frame masking."""
        choices = dict(batch)
        frames, n_frames = choices.pop("inputs"), choices.pop("lengths")
        inputs = augment({**choices, "frames": frames, "n_frames": n_frames})
        labels = inputs.pop("labels")
        return inputs, labels
