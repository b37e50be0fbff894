"""Splits into training and validation clips: a validation share, or folds.

Clips with the same id, or of the same recording (ids that differ only after an `@`), stay
together. A split depends only on ids and labels, not on the order of files.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from vggish.common.wording import count
from vggish.errors import OptionError, TrainingError

Indices = npt.NDArray[np.int64]
DEFAULT_SHARE = 0.1


def check_share(share: float) -> None:
    """Raise an `OptionError` for a share that is not between 0 and 1, such as NaN."""
    if not 0 < share < 1:
        raise OptionError(f"the validation share must lie between 0 and 1. Received: {share}")


def check_n_folds(n_folds: int) -> None:
    """Raise an `OptionError` for fewer than two folds."""
    if n_folds < 2:
        raise OptionError(f"the number of folds must be 2 or more. Received: {n_folds}")


def check_given_folds(fold_of_clip: Sequence[int | None], n_folds: int) -> None:
    """Raise an `OptionError` unless every clip has a fold, and there are `n_folds` of them."""
    names = set(fold_of_clip)
    if None in names:
        n_without = sum(fold is None for fold in fold_of_clip)
        raise OptionError(
            f"the data names the fold of only some clips; {n_without} of {len(fold_of_clip)} have "
            "none"
        )
    if len(names) != n_folds:
        raise OptionError(f"the data names {count(len(names), 'fold')}; --folds says {n_folds}")


def hold_out(
    ids: Sequence[str], labels: Sequence[Sequence[int]], share: float, seed: int
) -> tuple[Indices, Indices]:
    """Split clips by a validation share: indices of the training and of the validation clips.

    Raises a `TrainingError` if there are too few clips to hold any out.
    """
    check_share(share)
    groups = _ordered_groups(ids, labels, seed)
    held: list[int] = []
    for position, group in enumerate(groups):
        # Groups are in order of class, so even steps give each class its share.
        if _whole((position + 1) * share) > _whole(position * share):
            held += group
    if not held or len(held) == len(ids):
        raise TrainingError(
            f"too few recordings to hold out {share:.0%} of them: {len(groups)}; give "
            "separate validation data with --val, or another --val-share"
        )
    validation = np.array(sorted(held), np.int64)
    return np.setdiff1d(np.arange(len(ids)), validation), validation


def folds(
    ids: Sequence[str], labels: Sequence[Sequence[int]], n_folds: int, seed: int
) -> list[tuple[Indices, Indices]]:
    """Split clips into folds: for each, indices of its training and its validation clips."""
    check_n_folds(n_folds)
    groups = _ordered_groups(ids, labels, seed)
    if n_folds > len(groups):
        raise OptionError(
            f"the number of folds must be at most that of recordings, {len(groups)}. "
            f"Received: {n_folds}"
        )
    of_fold: list[list[int]] = [[] for _ in range(n_folds)]
    for position, group in enumerate(groups):
        of_fold[position % n_folds] += group
    return [_one_fold(np.array(sorted(held), np.int64), len(ids)) for held in of_fold]


def given_folds(fold_of_clip: Sequence[int | str]) -> list[tuple[Indices, Indices]]:
    """Split clips by the folds that the data names; the result is that of `folds`."""
    names = sorted(set(fold_of_clip), key=str)
    if len(names) < 2:
        raise TrainingError(f"the data names only one fold: {names}; at least two are needed")
    of_clip = np.array([names.index(name) for name in fold_of_clip])
    return [_one_fold(np.flatnonzero(of_clip == k), len(of_clip)) for k in range(len(names))]


def _whole(count: float) -> int:
    # 100 * 0.29 is 28.999999999999996.
    return int(count + 1e-9)


def _one_fold(held: Indices, n: int) -> tuple[Indices, Indices]:
    return np.setdiff1d(np.arange(n), held), held


def _ordered_groups(
    ids: Sequence[str], labels: Sequence[Sequence[int]], seed: int
) -> list[list[int]]:
    """Groups of clips that stay together, by their rarest class, then randomly by id."""
    n_of_class = Counter(itertools.chain.from_iterable(labels))
    groups: dict[str, list[int]] = {}
    for index, clip_id in enumerate(ids):
        groups.setdefault(clip_id.partition("@")[0], []).append(index)

    def order(name: str) -> tuple[int, bytes]:
        classes = {label for index in groups[name] for label in labels[index]}
        rarest = min(classes, key=lambda label: (n_of_class[label], label), default=-1)
        return rarest, hashlib.sha256(f"{seed}/{name}".encode()).digest()

    return [groups[name] for name in sorted(groups, key=order)]
