"""Calibration of scores to probabilities, by two numbers per embedder.

A score becomes `sigmoid(scale * logit(score) + offset)`. The scale is positive, so the order of
scores and every ranking metric stay the same.

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

# Scores of 0 and 1 have no logit; float32 has no number between 1 - 6e-8 and 1.
_MIN_SCORE = 1e-7
# Fewer pairs are too few to fit to.
_MIN_PAIRS = 10
_MAX_STEPS = 50
_SMALL_STEP = 1e-9
_Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Calibration:
    """A linear function of the logits of scores.

    A scale above 1 makes scores more extreme, below 1 less. Raises an `OptionError` unless the
    scale is positive and both numbers are finite.
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
        """Calibrate scores from 0 to 1, of any shape; 0 and 1 stay the same.

        >>> Calibration(scale=1.0, offset=0.0)(np.array([0.0, 0.25, 1.0], np.float32))
        array([0.  , 0.25, 1.  ], dtype=float32)
        """
        with np.errstate(divide="ignore", over="ignore"):
            values = scores.astype(np.float64)
            # sigmoid(a * logit(s) + b), in a form that keeps small scores exact.
            odds = np.exp(self.offset) * (values / (1 - values)) ** self.scale
            calibrated = 1 / (1 + 1 / odds)
        return np.asarray(calibrated, np.float32)

    def as_json(self) -> dict[str, float]:
        """The form in `bundle.json`."""
        return {"scale": self.scale, "offset": self.offset}

    @classmethod
    def from_json(cls, values: Any) -> Calibration:
        """Undo `as_json`; an `OptionError` for a value of another form."""
        if not isinstance(values, Mapping) or values.keys() != {"scale", "offset"}:
            raise OptionError(f"a calibration has scale and offset. Received: {values!r}")
        if not all(isinstance(value, (int, float)) for value in values.values()):
            raise OptionError(f"a calibration has two numbers. Received: {values!r}")
        return cls(float(values["scale"]), float(values["offset"]))


def fit_calibration(scores: npt.ArrayLike, labels: npt.ArrayLike) -> Calibration:
    """Fit a calibration to scores [B, C] from 0 to 1 of labelled clips, over all classes pooled.

    The head must not have been trained on these clips, because its scores of those are too
    confident. The result is the maximum likelihood estimate; the identity if there is none, because
    fewer than ten pairs are positive or negative, or higher scores are less often right.
    """
    values, truth = np.asarray(scores, np.float64), np.asarray(labels, np.bool_)
    if values.shape != truth.shape:
        raise OptionError(
            "scores and labels must have the same shape. "
            f"Received: {list(values.shape)} and {list(truth.shape)}"
        )
    n_right = int(np.count_nonzero(truth))
    n_wrong = truth.size - n_right
    if min(n_right, n_wrong) < _MIN_PAIRS:
        return Calibration()
    clipped = values.ravel().clip(_MIN_SCORE, 1 - _MIN_SCORE)
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
        # The small term gives a unique solution if all logits are equal.
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
    """Cross-entropy, in a form that cannot overflow."""
    values = place[0] * logits + place[1]
    return float((np.logaddexp(0, values) - targets * values).sum())
