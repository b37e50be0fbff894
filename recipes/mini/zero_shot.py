"""Zero-shot classification: the classes of ESC-50 and UrbanSound8K as AudioSet classes."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.labels import audioset_labels

Names = Mapping[str, Sequence[int]]

_DIRECTORY = Path(__file__).parent


def esc50_names() -> dict[str, list[int]]:
    """Map 45 of the 50 classes of ESC-50 to indices of AudioSet classes.

    AudioSet has no class for drinking_sipping, can_opening, washing_machine and mouse_click, and
    its class for insects includes crickets, so these are omitted.
    """
    return _read("esc50", _DIRECTORY / "esc50_audioset.csv")


def urbansound8k_names() -> dict[str, list[int]]:
    """Map the 10 classes of UrbanSound8K to indices of AudioSet classes."""
    return _read("urbansound8k", _DIRECTORY / "urbansound8k_audioset.csv")


def zero_shot(
    scores: npt.NDArray[np.floating], labels: Sequence[str], names: Names | None = None
) -> tuple[float, float]:
    """Top-1 and top-5 accuracy of AudioSet scores for the classes of another data set.

    The score of a class is the highest score of the AudioSet classes that match it.

    Args:
        scores: [n, 527], AudioSet scores of each clip.
        labels: the class of each clip; each must be in `names`.
        names: the classes to choose from, with their AudioSet indices; ESC-50's if None.
    """
    names = esc50_names() if names is None else names
    restricted = np.stack([scores[:, indices].max(axis=1) for indices in names.values()], axis=1)
    truth = np.array([list(names).index(label) for label in labels])
    order = np.argsort(-restricted, axis=1, kind="stable")
    hits = order == truth[:, np.newaxis]
    return float(hits[:, 0].mean()), float(hits[:, :5].any(axis=1).mean())


def _read(column: str, path: Path) -> dict[str, list[int]]:
    index_of = {name: index for index, name in enumerate(audioset_labels().names)}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row[column]: [index_of[name] for name in row["audioset"].split("|")] for row in rows}
