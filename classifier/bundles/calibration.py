"""Calibration: scores -> how likely a tag is right, by two numbers for each embedder.

A score becomes `sigmoid(scale * logit(score) + offset)`. The scale is positive, so the order of
scores, and with it every metric of ranking, stays as it is.

Source: Platt, "Probabilistic outputs for support vector machines" (1999), with his smoothed
targets; Newton's method as in Lin, Lin & Weng, "A note on Platt's probabilistic outputs" (2007).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.errors import OptionError

# Scores of 0 and 1 have no logit; float32 knows none between 1 - 6e-8 and 1.
_LEAST_SCORE = 1e-7

# Of fewer right tags nothing can be learnt.
_LEAST_RIGHT = 10

_MAX_STEPS = 50

_SMALL_STEP = 1e-9

_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """What is done to the logits of scores.

    Attributes:
        scale: more than 0; above 1 makes scores more extreme, below 1 less.
        offset: is added.

    Raises:
        OptionError: the numbers are not finite, or the scale is not positive.
    """

    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and math.isfinite(self.offset) and self.scale > 0):
            raise OptionError(
                "a calibration needs a scale above 0 and an offset, both finite. "
                f"Received: {self.scale} and {self.offset}"
            )

    def __call__(self, scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Scores in [0, 1], of any shape -> the same, calibrated; 0 and 1 stay.

        >>> Calibration(scale=1.0, offset=0.0)(np.array([0.0, 0.25, 1.0], np.float32))
        array([0.  , 0.25, 1.  ], dtype=float32)
        """
        with np.errstate(divide="ignore", over="ignore"):
            values = scores.astype(np.float64)
            # sigmoid(a * logit(s) + b), without the detour that would lose small scores.
            odds = np.exp(self.offset) * (values / (1 - values)) ** self.scale
            calibrated = 1 / (1 + 1 / odds)
        return np.asarray(calibrated, np.float32)

    def as_json(self) -> dict[str, float]:
        """As `bundle.json` has it."""
        return {"scale": self.scale, "offset": self.offset}

    @classmethod
    def from_json(cls, values: Any) -> Calibration:
        """The inverse of `as_json`.

        Raises:
            OptionError: it is something else.
        """
        if not isinstance(values, Mapping) or values.keys() != {"scale", "offset"}:
            raise OptionError(f"a calibration has scale and offset. Received: {values!r}")
        if not all(isinstance(value, (int, float)) for value in values.values()):
            raise OptionError(f"a calibration has two numbers. Received: {values!r}")
        return cls(float(values["scale"]), float(values["offset"]))


def fit_calibration(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Calibration:
    """The calibration that makes scores fit labels best, over all classes pooled.

    Clips with which the head was not trained must be taken, for of those it knows it is too sure.

    Args:
        scores: float [B, C], in [0, 1].
        labels: bool [B, C].

    Returns:
        The maximum likelihood estimate; one that changes nothing where there is none: fewer than
        ten pairs are right or wrong, or higher scores are less often right.

    Raises:
        OptionError: the shapes differ.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if values.shape != truth.shape:
        raise OptionError(
            "scores and labels must have the same shape. "
            f"Received: {list(values.shape)} and {list(truth.shape)}"
        )
    n_right = int(np.count_nonzero(truth))
    n_wrong = truth.size - n_right
    if min(n_right, n_wrong) < _LEAST_RIGHT:
        return Calibration()
    clipped = values.ravel().clip(_LEAST_SCORE, 1 - _LEAST_SCORE)
    logits = np.log(clipped / (1 - clipped))
    targets = np.where(truth.ravel(), (n_right + 1) / (n_right + 2), 1 / (n_wrong + 2))
    scale, offset = _maximum_likelihood(logits, targets)
    return Calibration(scale, offset) if scale > 0 else Calibration()


def _maximum_likelihood(logits: _Floats, targets: _Floats) -> tuple[float, float]:
    """Scale and offset by Newton's method, each step halved until the loss falls."""
    place = np.array([1.0, 0.0])
    loss = _loss(place, logits, targets)
    for _ in range(_MAX_STEPS):
        guesses = 1 / (1 + np.exp(-(place[0] * logits + place[1])))
        error, curvature = guesses - targets, guesses * (1 - guesses)
        gradient = np.array([error @ logits, error.sum()])
        mixed = curvature @ logits
        hessian = np.array([[curvature @ logits**2, mixed], [mixed, curvature.sum()]])
        # Without it, logits that are all the same would have no single solution.
        step = np.linalg.solve(hessian + 1e-9 * np.eye(2), gradient)
        factor = 1.0
        while factor > _SMALL_STEP:
            next_loss = _loss(place - factor * step, logits, targets)
            if next_loss <= loss:
                break
            factor /= 2
        else:
            break
        place, loss = place - factor * step, next_loss
        if float(np.abs(factor * step).max()) < _SMALL_STEP:
            break
    return float(place[0]), float(place[1])


def _loss(place: _Floats, logits: _Floats, targets: _Floats) -> float:
    """Cross-entropy, in a form that no logit makes overflow."""
    values = place[0] * logits + place[1]
    return float((np.logaddexp(0, values) - targets * values).sum())
