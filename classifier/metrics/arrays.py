"""Validation of scores and labels, and means that ignore undefined values."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.errors import OptionError

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def validate(scores: npt.ArrayLike, labels: npt.ArrayLike) -> tuple[Floats, Bools]:
    """Check scores [n_clips, n_classes] and labels (booleans, or 0 and 1) of the same shape.

    Returns the scores as float64, or float32 if they were; the labels as bool. Raises an
    `OptionError` that guesses the mistake.
    """
    given_scores, given_labels = _numbers(scores, "scores"), _numbers(labels, "labels")
    _check_shapes(given_scores, given_labels)
    dtype = np.float32 if given_scores.dtype == np.float32 else np.float64
    values: Floats = given_scores.astype(dtype, copy=False)
    finite = np.isfinite(values)
    if not finite.all():
        clip, class_index = np.argwhere(~finite)[0]
        raise OptionError(
            f"scores must be finite numbers. Received: {values[clip, class_index]} for clip "
            f"{clip}, class {class_index}; {np.count_nonzero(~finite)} in all (did training "
            "diverge?)"
        )
    if given_labels.dtype != np.bool_ and not _is_binary(given_labels):
        raise OptionError(
            "labels must be 0 or 1. Received values "
            f"{given_labels.min():g} to {given_labels.max():g} "
            f"{_guess_at_labels(given_labels, values)}"
        )
    return values, given_labels.astype(np.bool_, copy=False)


def mean(values: npt.NDArray[Any]) -> float:
    """Mean; NaN of an empty array."""
    return float(np.mean(values)) if values.size else math.nan


def nan_mean(values: Floats) -> float:
    """Mean of the values that are not NaN; NaN if all are."""
    return mean(values[~np.isnan(values)])


def divide(sums: npt.ArrayLike, counts: npt.ArrayLike) -> Floats:
    """Quotients; NaN where the count is 0."""
    totals, n = np.asarray(sums, np.float64), np.asarray(counts)
    quotients: Floats = np.divide(totals, n, out=np.full(n.shape, np.nan), where=n > 0)
    return quotients


def _numbers(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise OptionError(
            f"{what} must be an array [n_clips, n_classes]; the rows received differ in length "
            "(are these lists of class indices?)"
        ) from error
    if array.dtype.kind not in "biuf":
        raise OptionError(f"{what} must be numbers. Received dtype: {array.dtype}")
    return array


def _check_shapes(scores: npt.NDArray[Any], labels: npt.NDArray[Any]) -> None:
    for what, shape in (("scores", scores.shape), ("labels", labels.shape)):
        if len(shape) != 2:
            guess = "is this one clip? give it as [array]"
            if what == "labels" and scores.ndim == 2 and shape == scores.shape[:1]:
                guess = "are these class indices? give 0 or 1 for each class"
            raise OptionError(
                f"{what} must have the shape [n_clips, n_classes]. Received: {shape} ({guess})"
            )
    if scores.shape != labels.shape:
        guess = "do they come from the same clips and the same list of classes?"
        if scores.shape == labels.shape[::-1]:
            guess = "is one of them transposed?"
        elif scores.shape[1] == labels.shape[1]:
            guess = "were clips left out of one of them?"
        raise OptionError(
            "scores and labels must have the same shape. Received: "
            f"{scores.shape} and {labels.shape} ({guess})"
        )
    if scores.shape[1] == 0:
        raise OptionError(f"there must be at least one class. Received the shape {scores.shape}")


def _guess_at_labels(labels: npt.NDArray[Any], scores: Floats) -> str:
    if np.isnan(labels).any():
        return "(are some clips unlabelled? leave those out)"
    if (labels == np.round(labels)).all():
        return "(are these class indices, or counts? give 0 or 1 for each class)"
    if _is_binary(scores):
        return "(are the arguments swapped?)"
    if not are_probabilities(labels):
        return "(are these logits?)"
    return "(are these scores, or soft labels? compare them with a threshold first)"


def check_count(value: int, name: str) -> None:
    """Raise an `OptionError` for a count below 1."""
    if value < 1:
        raise OptionError(f"`{name}` must be at least 1. Received: {value}")


def _is_binary(values: npt.NDArray[Any]) -> bool:
    return bool(((values == 0) | (values == 1)).all())


def are_probabilities(values: npt.NDArray[Any]) -> bool:
    """Whether all values are from 0 to 1."""
    return bool(((values >= 0) & (values <= 1)).all())
