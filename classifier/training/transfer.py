"""Start a head from the weights of another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.bundles.files import Weights
from classifier.heads.layers import CLASSES, LEVELS, RandomLayer
from classifier.labels import Labels
from vggish.errors import BundleError, RunError

# A class without clips is taken to be as rare as this.
_LEAST_SHARE = 1e-4


def weights_of(model: Any) -> Weights:
    """The weights of a model as "layer/0", "layer/1", ...; counters of random layers aside."""
    return {
        f"{layer.name}/{number}": weight.numpy()
        for layer in model.layers
        if not isinstance(layer, RandomLayer)
        for number, weight in enumerate(layer.weights)
    }


def set_weights(model: Any, weights: Weights) -> None:
    """Give a model the weights that `weights_of` took from one of the same head.

    Raises:
        RunError: they are of another head.
    """
    variables = _variables(model)
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    given = {name: weight.shape for name, weight in weights.items()}
    if shapes != given:
        odd = sorted(k for k in {*shapes, *given} if shapes.get(k) != given.get(k))
        raise RunError(f"these weights belong to another head; they differ in: {', '.join(odd)}")
    for name, variable in variables.items():
        variable.assign(weights[name])


def start_at_shares(model: Any, shares: npt.NDArray[np.floating]) -> None:
    """Set the biases of classes so that a new head says how often each class is.

    From 0 they would have to fall to -5 or so first, for which Adam takes thousands of steps;
    a recurrent head spends its state on that meanwhile, and is slow to leave it.

    Args:
        model: a new head.
        shares: [C], the share of training clips with each label.

    Source: Lin et al., "Focal loss for dense object detection" (2017), section 4.1.
    """
    kept = np.clip(shares, _LEAST_SHARE, 1 - _LEAST_SHARE)
    logits = np.log(kept / (1 - kept))
    for layer in model.layers:
        if layer.name.startswith(CLASSES) and not layer.name.endswith("weights") and layer.use_bias:
            layer.bias.assign(np.repeat(logits, layer.units // len(shares)))


def start_from(model: Any, weights: Weights, before: Labels, now: Labels) -> int:
    """Give a model the weights of a trained one of the same head, for other classes too.

    What belongs to a class (the layers whose names begin with `classes`) is taken over for
    the classes that both know, by AudioSet id or by name; new ones stay as they were made.

    Returns:
        The number of classes that were taken over.

    Raises:
        BundleError: the weights are of a head of another kind or size.
    """
    variables = _variables(model)
    if variables.keys() != weights.keys():
        odd = ", ".join(sorted(variables.keys() ^ weights.keys()))
        raise BundleError(f"the head to start from is of another kind; they differ in: {odd}")
    known = before.indices()
    pairs = [
        (new, known[key])
        for new, (name, mid) in enumerate(zip(now.names, now.mids, strict=True))
        for key in [mid if mid in known else name]
        if key in known
    ]
    # The last layer of multi-level-attention.
    reads_classes = any(layer.name == LEVELS for layer in model.layers)
    for name, variable in variables.items():
        old = weights[name]
        if name.startswith(CLASSES):
            if name == f"{CLASSES}/0" and reads_classes:
                old = _carried_rows(old, pairs, len(now), len(before))
            old = _carried_over(variable.numpy(), old, pairs, len(now), len(before))
        if tuple(variable.shape) != old.shape:
            raise BundleError(
                f"the head to start from has another size: {name} is {list(old.shape)}, here it is "
                f"{list(variable.shape)}"
            )
        variable.assign(old)
    return len(pairs)


def _carried_over(
    fresh: npt.NDArray[Any],
    old: npt.NDArray[Any],
    pairs: list[tuple[int, int]],
    n_now: int,
    n_before: int,
) -> npt.NDArray[Any]:
    """Columns [..., C * k] of the classes in `pairs` from `old`, the others as in `fresh`."""
    new = fresh.reshape(*fresh.shape[:-1], n_now, -1).copy()
    source = old.reshape(*old.shape[:-1], n_before, -1)
    if new.shape[:-2] != source.shape[:-2] or new.shape[-1] != source.shape[-1]:
        return old  # the caller says which shapes differ
    for now, before in pairs:
        new[..., now, :] = source[..., before, :]
    carried: npt.NDArray[Any] = new.reshape(fresh.shape)
    return carried


def _carried_rows(
    old: npt.NDArray[Any], pairs: list[tuple[int, int]], n_now: int, n_before: int
) -> npt.NDArray[Any]:
    """Rows [levels * C] of the classes in `pairs`, zeros for new ones, so that they add nothing."""
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
