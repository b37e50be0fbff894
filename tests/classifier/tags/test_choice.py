"""Tag selection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.tags.choice import Choice, top_indices
from tests.support.bundles import N_CLASSES, NAMES, make_labels
from vggish.errors import OptionError

SCORES = np.array([[0.5, 0.1, 0.9, 0.5, 0.7], [0.0, 0.2, 0.0, 0.0, 0.1]], np.float32)


def chosen(**choice: Any) -> list[list[int]]:
    return [[tag.index for tag in tags] for tags in Choice(**choice).tags(SCORES, make_labels())]


def test_labels_restrict_the_classes_that_top_k_ranks() -> None:
    assert chosen(labels=["Rain", "Speech", "Bark"], top_k=2) == [[2, 4], [4, 0]]
    assert chosen(labels=["RAIN", "/M/0"]) == [[4, 0], [4, 0]]
    assert chosen(exclude_labels=["bark", "/m/4"], threshold=0.2) == [[0, 3], [1]]
    assert chosen(labels=["Rain", "Bark"], exclude_labels=["Bark"]) == [[4], [4]]
    assert chosen(exclude_labels=[]) == chosen() == [[2, 4, 0, 3, 1], [1, 4, 0, 2, 3]]


def test_selecting_all_classes_equals_selecting_none(rng: np.random.Generator) -> None:
    scores = rng.integers(0, 4, (20, N_CLASSES)).astype(np.float32) / 4
    classes = Choice(labels=NAMES[::-1]).classes(make_labels())
    assert classes is not None
    for top_k in (1, 3, None):
        expected = top_indices(scores, top_k)
        np.testing.assert_array_equal(top_indices(scores, top_k, classes), expected)


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"labels": "Speech"}, "labels must be a list of names. Received: 'Speech'"),
        ({"exclude_labels": "Speech"}, "exclude_labels must be a list of names"),
        ({"labels": []}, r"leave no class. Received: \[\] and none"),
        ({"labels": ["Bark"], "exclude_labels": ["bark"]}, r"leave no class. Received: \['Bark'\]"),
        ({"exclude_labels": NAMES}, "leave no class"),
        ({"labels": ["Speach"]}, "no class 'Speach'; did you mean 'Speech'"),
        ({"exclude_labels": ["Speach"]}, "no class 'Speach'; did you mean 'Speech'"),
        ({"top_k": 0}, "top_k must be at least 1. Received: 0"),
        ({"threshold": -0.1}, "threshold must be from 0 to 1. Received: -0.1"),
    ],
)
def test_invalid_choices_are_rejected(choice: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        chosen(**choice)
