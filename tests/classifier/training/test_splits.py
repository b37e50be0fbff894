"""Splits: size, stratification, grouping by recording, and determinism."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from classifier.training.splits import check_given_folds, folds, given_folds, hold_out
from vggish.errors import OptionError, TrainingError


def data(n: int = 200, n_classes: int = 8, seed: int = 0) -> tuple[list[str], list[list[int]]]:
    """Make ids and labels; the first classes are far more frequent than the last."""
    rng = np.random.default_rng(seed)
    ids = [f"clip{number}" for number in range(n)]
    chances = 0.5 ** np.arange(n_classes)
    labels = [np.flatnonzero(rng.random(n_classes) < chances).tolist() for _ in range(n)]
    return ids, labels


def held_ids(ids: Sequence[str], labels: Any, share: float = 0.2, seed: int = 0) -> set[str]:
    return {ids[index] for index in hold_out(ids, labels, share, seed)[1]}


@pytest.mark.parametrize("share", [0.01, 0.05, 0.1, 0.29, 0.3, 0.5, 0.57, 0.9, 0.99])
def test_held_out_share_is_exact(share: float) -> None:
    ids, labels = data(100)
    training, validation = hold_out(ids, labels, share, 0)
    assert len(validation) == round(100 * share)
    assert sorted([*training, *validation]) == list(range(100))
    assert training.dtype == validation.dtype == np.int64


@given(st.integers(2, 60), st.integers(1, 99), st.integers(0, 5))
@settings(max_examples=60)
def test_split_is_a_partition_of_about_the_given_share(n: int, per_cent: int, seed: int) -> None:
    ids, labels = data(n, seed=seed)
    expected = n * per_cent // 100
    if expected == 0:
        with pytest.raises(TrainingError, match="too few recordings to hold out"):
            hold_out(ids, labels, per_cent / 100, seed)
        return
    training, validation = hold_out(ids, labels, per_cent / 100, seed)
    assert len(validation) == expected
    assert sorted([*training, *validation]) == list(range(n))


def test_clips_of_one_id_or_recording_stay_together() -> None:
    ids = [f"r{number // 3}@{number}" for number in range(60)]
    ids += ["same"] * 5 + ["alone", "same@1", "r3"]
    labels = [[number % 4] for number in range(len(ids))]
    for seed in range(5):
        held = held_ids(ids, labels, 0.3, seed)
        kept = {ids[index] for index in hold_out(ids, labels, 0.3, seed)[0]}
        recordings = [{name.split("@")[0] for name in names} for names in (held, kept)]
        assert not recordings[0] & recordings[1]
        splits = folds(ids, labels, 4, seed)
        fold_of = {
            (ids[index].split("@")[0], k)
            for k, (_, validation) in enumerate(splits)
            for index in validation
        }
        assert len(fold_of) == len({name.split("@")[0] for name in ids})


def test_split_is_stratified_by_class() -> None:
    # All 100 clips have class 0, 30 of them also class 1, and 10 of those class 2.
    labels = [[0]] * 70 + [[0, 1]] * 20 + [[0, 1, 2]] * 10
    ids = [str(number) for number in range(100)]
    for seed in range(5):
        _, validation = hold_out(ids, labels, 0.2, seed)
        counts = Counter(tuple(labels[index]) for index in validation)
        assert counts == {(0,): 14, (0, 1): 4, (0, 1, 2): 2}
        for _, held in folds(ids, labels, 5, seed):
            assert Counter(tuple(labels[index]) for index in held) == counts


def test_unlabelled_clips_are_split_too() -> None:
    ids, labels = [str(number) for number in range(40)], [[0]] * 20 + [[]] * 20
    _, validation = hold_out(ids, labels, 0.25, 1)
    assert Counter(len(labels[index]) for index in validation) == {0: 5, 1: 5}


def test_split_does_not_depend_on_clip_order(rng: np.random.Generator) -> None:
    ids, labels = data()
    ids[10] = ids[20] = ids[30]  # the same recording three times
    order = rng.permutation(len(ids))
    other_ids, other_labels = [ids[i] for i in order], [labels[i] for i in order]
    assert held_ids(ids, labels) == held_ids(other_ids, other_labels)
    mine_and_others = (folds(ids, labels, 3, 0), folds(other_ids, other_labels, 3, 0))
    for mine, other in zip(*mine_and_others, strict=True):
        assert {ids[i] for i in mine[1]} == {other_ids[i] for i in other[1]}


def test_split_depends_on_the_seed() -> None:
    ids, labels = data()
    assert held_ids(ids, labels, seed=0) == held_ids(ids, labels, seed=0)
    assert held_ids(ids, labels, seed=0) != held_ids(ids, labels, seed=1)


def test_split_is_ordered_by_sha256_on_every_platform() -> None:
    ids, labels = [f"clip{number}" for number in range(10)], [[number % 2] for number in range(10)]

    def place(clip_id: str) -> bytes:
        return hashlib.sha256(f"7/{clip_id}".encode()).digest()

    # The last of the five clips of each class is held out.
    assert held_ids(ids, labels, 0.2, 7) == {max(ids[::2], key=place), max(ids[1::2], key=place)}


@pytest.mark.parametrize("n_folds", [2, 3, 7, 50])
def test_folds_are_a_partition_of_equal_sizes(n_folds: int) -> None:
    ids, labels = data(50)
    splits = folds(ids, labels, n_folds, 0)
    assert len(splits) == n_folds
    assert sorted(index for _, held in splits for index in held) == list(range(50))
    sizes = [len(held) for _, held in splits]
    assert max(sizes) - min(sizes) <= 1
    for training, held in splits:
        assert sorted([*training, *held]) == list(range(50))


def test_predefined_folds_are_kept() -> None:
    splits = given_folds(["b", "a", "b", "c"])
    assert [held.tolist() for _, held in splits] == [[1], [0, 2], [3]]
    assert [training.tolist() for training, _ in splits] == [[0, 2, 3], [1, 3], [0, 1, 2]]
    assert [held.tolist() for _, held in given_folds([1, 2, 1])] == [[0, 2], [1]]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_share_out_of_range_is_rejected(share: float) -> None:
    with pytest.raises(OptionError, match=r"must lie between 0 and 1\. Received:"):
        hold_out(*data(), share, 0)


def test_too_few_recordings_are_rejected() -> None:
    with pytest.raises(
        TrainingError, match=r"too few recordings to hold out 50% of them: 1; .*--val"
    ):
        hold_out(["a@1", "a@2", "a@3"], [[0]] * 3, 0.5, 0)
    with pytest.raises(TrainingError, match=r"too few recordings .*: 0;"):
        hold_out([], [], 0.5, 0)
    for n_folds in (-1, 0, 1):
        with pytest.raises(OptionError, match=rf"must be 2 or more\. Received: {n_folds}"):
            folds(["a", "b@1", "b@2", "c"], [[0]] * 4, n_folds, 0)
    with pytest.raises(OptionError, match=r"that of recordings, 3\. Received: 4"):
        folds(["a", "b@1", "b@2", "c"], [[0]] * 4, 4, 0)
    with pytest.raises(TrainingError, match=r"only one fold: .'x'.; at least two are needed"):
        given_folds(["x", "x"])


def test_predefined_folds_must_be_complete_and_match_n_folds() -> None:
    check_given_folds([1, 2, 1], 2)
    with pytest.raises(OptionError, match="the data names 1 fold; --folds says 2"):
        check_given_folds([1, 1], 2)
    with pytest.raises(OptionError, match="only some clips; 2 of 3 have none"):
        check_given_folds([None, 2, None], 2)
