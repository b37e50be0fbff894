"""Weights of a head by name, and starting a head from those of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.files import Weights
from classifier.heads.layers import CLASSES, LEVELS, RandomLayer
from classifier.labels import Labels
from vggish.errors import BundleError, RunError

# The assumed share of clips of a class without clips.
_MIN_SHARE = 1e-4


def weights_of(model: Any) -> Weights:
    """The weights of a model as "layer/0", "layer/1", ..., without counters of random layers."""
    return {name: variable.numpy() for name, variable in _variables(model).items()}


def set_weights(model: Any, weights: Weights) -> None:
    """Set the result of `weights_of`; a `RunError` if it is that of another head."""
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    given = {name: weight.shape for name, weight in weights.items()}
    if shapes != given:
        odd = sorted(k for k in {*shapes, *given} if shapes.get(k) != given.get(k))
        raise RunError(f"these weights belong to another head; they differ in: {', '.join(odd)}")
    for name, variable in variables.items():
        variable.assign(weights[name])


def start_at_shares(model: Any, shares: npt.NDArray[np.floating]) -> None:
    """Set the biases of a new head so that it predicts the share of each class, [C].

    From 0 they would first have to fall to about -5, which takes Adam thousands of steps; meanwhile
    a recurrent head spends its state on that, and is slow to recover.

    Source: Lin et al., "Focal loss for dense object detection" (2017), section 4.1.
    """
    kept = np.clip(shares, _MIN_SHARE, 1 - _MIN_SHARE)
    logits = np.log(kept / (1 - kept))
    for layer in model.layers:
        if layer.name.startswith(CLASSES) and not layer.name.endswith("weights") and layer.use_bias:
            layer.bias.assign(np.repeat(logits, layer.units // len(shares)))


def start_from(model: Any, weights: Weights, before: Labels, now: Labels) -> int:
    """Set the weights of a new head to those of a trained one of the same type and size.

    The classes may differ. The weights of a class (in layers whose names begin with `classes`) are
    copied for the classes that both have, by AudioSet id or by name; those of new classes stay as
    they are. Returns the number of copied classes; a `BundleError` if the heads do not fit.
    """
    variables = _variables(model)
    if variables.keys() != weights.keys():
        odd = ", ".join(sorted(variables.keys() ^ weights.keys()))
        raise BundleError(f"the head to start from is of another type; they differ in: {odd}")
    known = before.indices()
    pairs = [
        (new, known[key])
        for new, (name, mid) in enumerate(zip(now.names, now.mids, strict=True))
        for key in [mid if mid in known else name]
        if key in known
    ]
    # The last layer of multi-level-attention.
    joins_levels = any(layer.name == LEVELS for layer in model.layers)
    for name, variable in variables.items():
        old = weights[name]
        if name.startswith(CLASSES):
            if name == f"{CLASSES}/0" and joins_levels:
                old = _copied_rows(old, pairs, len(now), len(before))
            old = _copied_columns(variable.numpy(), old, pairs, len(now), len(before))
        if tuple(variable.shape) != old.shape:
            raise BundleError(
                f"the head to start from has another size: {name} is {list(old.shape)}, here it is "
                f"{list(variable.shape)}"
            )
        variable.assign(old)
    return len(pairs)


def _copied_columns(
    fresh: npt.NDArray[Any],
    old: npt.NDArray[Any],
    pairs: list[tuple[int, int]],
    n_now: int,
    n_before: int,
) -> npt.NDArray[Any]:
    """Columns [..., C * k] of the classes in `pairs` from `old`, the others from `fresh`."""
    new = fresh.reshape(*fresh.shape[:-1], n_now, -1).copy()
    source = old.reshape(*old.shape[:-1], n_before, -1)
    if new.shape[:-2] != source.shape[:-2] or new.shape[-1] != source.shape[-1]:
        return old  # the caller reports which shapes differ
    for now, before in pairs:
        new[..., now, :] = source[..., before, :]
    copied: npt.NDArray[Any] = new.reshape(fresh.shape)
    return copied


def _copied_rows(
    old: npt.NDArray[Any], pairs: list[tuple[int, int]], n_now: int, n_before: int
) -> npt.NDArray[Any]:
    """Rows [levels * C] of the classes in `pairs`, and zeros for new classes."""
    source = old.reshape(-1, n_before, old.shape[-1])
    rows = np.zeros((len(source), n_now, old.shape[-1]), old.dtype)
    for now, before in pairs:
        rows[:, now] = source[:, before]
    return rows.reshape(-1, old.shape[-1])


def _variables(model: Any) -> Mapping[str, Any]:
    return {
        f"{layer.name}/{number}": weight
        for layer in model.layers
        if not isinstance(layer, RandomLayer)
        for number, weight in enumerate(layer.weights)
    }
