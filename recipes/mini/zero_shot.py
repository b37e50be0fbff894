"""The classes of ESC-50 and UrbanSound8K in AudioSet's words: naming them without learning them."""

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
    """The classes of ESC-50 that AudioSet has names for -> the indices of those, 45 of 50.

    Left out: drinking_sipping, can_opening, washing_machine and mouse_click, for which AudioSet
    has no name, and insects, whose name there includes crickets.
    """
    return _read("esc50", _DIRECTORY / "esc50_audioset.csv")


def urbansound8k_names() -> dict[str, list[int]]:
    """The 10 classes of UrbanSound8K -> the indices of AudioSet's names for them."""
    return _read("urbansound8k", _DIRECTORY / "urbansound8k_audioset.csv")


def zero_shot(
    scores: npt.NDArray[np.floating], labels: Sequence[str], names: Names | None = None
) -> tuple[float, float]:
    """Accuracy, and how often the truth is among the best five, of AudioSet's scores [n, 527].

    A class scores what the best of its names scores.

    Args:
        scores: [n, 527].
        labels: n, all of them with names.
        names: of the classes to choose from; ESC-50's if None.
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
