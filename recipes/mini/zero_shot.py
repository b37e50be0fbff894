"""ESC-50's classes in AudioSet's words: naming them without having learnt them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.labels import audioset_labels

_TABLE = Path(__file__).with_name("esc50_audioset.csv")


def esc50_names() -> dict[str, list[int]]:
    """The classes of ESC-50 that AudioSet has names for -> the indices of those, 45 of 50.

    Left out: drinking_sipping, can_opening, washing_machine and mouse_click, for which AudioSet
    has no name, and insects, whose name there includes crickets.
    """
    index_of = {name: index for index, name in enumerate(audioset_labels().names)}
    with open(_TABLE, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {row["esc50"]: [index_of[name] for name in row["audioset"].split("|")] for row in rows}


def zero_shot(scores: npt.NDArray[np.floating], labels: Sequence[str]) -> tuple[float, float]:
    """Accuracy, and how often the truth is among the best five, of AudioSet's scores [n, 527].

    A class scores what the best of its names scores. `labels` are ESC-50's, all with names.
    """
    names = esc50_names()
    restricted = np.stack([scores[:, indices].max(axis=1) for indices in names.values()], axis=1)
    truth = np.array([list(names).index(label) for label in labels])
    order = np.argsort(-restricted, axis=1, kind="stable")
    hits = order == truth[:, np.newaxis]
    return float(hits[:, 0].mean()), float(hits[:, :5].any(axis=1).mean())
