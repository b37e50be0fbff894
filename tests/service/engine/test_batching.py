"""Dynamic batching of concurrent callers."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from service.engine.batching import BatchingEmbedder
from vggish.errors import OptionError


class Network:
    """A fake embedder; the embedding of each patch identifies it."""

    provenance = {"name": "stand-in"}  # noqa: RUF012

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.batches: list[int] = []
        self.at_once = 0
        self.most_at_once = 0

    def __call__(self, patches: np.ndarray) -> np.ndarray:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.batches.append(len(patches))
        time.sleep(self.seconds)
        self.at_once -= 1
        if (patches < 0).any():
            raise OptionError("patches must not be negative")
        return np.repeat(patches[:, :1, 0], 128, axis=1).astype(np.float32)


def patches(n: int, value: float) -> np.ndarray:
    return np.full((n, 96, 64), value, np.float32)


def batching(network: Network, **options: Any) -> BatchingEmbedder:
    defaults = {"window_seconds": 0.2, "full_batch": 32, "n_active": lambda: 1_000}
    return BatchingEmbedder(network, **{**defaults, **options})


def run_together(embedder: BatchingEmbedder, inputs: list[np.ndarray]) -> list[Any]:
    barrier = threading.Barrier(len(inputs))

    def call(one: np.ndarray) -> Any:
        barrier.wait()
        try:
            return embedder(one)
        except OptionError as error:
            return error

    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(call, inputs))


def test_concurrent_callers_get_their_own_embeddings() -> None:
    network = Network()
    inputs = [patches(1 + i % 5, i) for i in range(40)]
    for one, found in zip(inputs, run_together(batching(network), inputs), strict=True):
        np.testing.assert_array_equal(found, one[:, :1, 0].repeat(128, axis=1))
    assert sum(network.batches) == sum(map(len, inputs))


def test_concurrent_callers_share_a_run() -> None:
    network, batches = Network(), []
    embedder = batching(
        network,
        window_seconds=30,
        n_active=lambda: 4,
        on_batch=lambda n, callers: batches.append((n, callers)),
    )
    run_together(embedder, [patches(3, i) for i in range(4)])
    assert network.batches == [12]
    assert batches == [(12, 4)]


def test_a_single_caller_does_not_wait() -> None:
    embedder = batching(Network(), window_seconds=30, n_active=lambda: 1)
    began = time.monotonic()
    embedder(patches(2, 1))
    assert time.monotonic() - began < 10


def test_a_full_batch_does_not_wait() -> None:
    network = Network()
    embedder = batching(network, window_seconds=30, full_batch=8)
    began = time.monotonic()
    run_together(embedder, [patches(4, 0), patches(4, 1)])
    embedder(patches(9, 2))
    assert time.monotonic() - began < 10
    assert network.batches == [8, 9]


def test_waiting_ends_with_the_window() -> None:
    network = Network()
    embedder = batching(network, window_seconds=0.05)
    assert len(embedder(patches(2, 1))) == 2
    assert network.batches == [2]


def test_batches_gather_while_the_network_runs() -> None:
    network = Network(seconds=0.1)
    embedder = batching(network, window_seconds=0.001, n_active=lambda: 0)
    run_together(embedder, [patches(1, i) for i in range(12)])
    assert network.most_at_once == 1
    assert len(network.batches) < 12


def test_without_a_window_each_caller_runs_alone() -> None:
    network = Network()
    run_together(batching(network, window_seconds=0), [patches(2, i) for i in range(6)])
    assert network.batches == [2] * 6


def test_a_caller_whose_patches_fail_fails_alone() -> None:
    network = Network()
    embedder = batching(network, window_seconds=30, n_active=lambda: 3)
    good, bad, last = run_together(embedder, [patches(1, 1), patches(1, -1), patches(1, 2)])
    assert good[0, 0] == 1
    assert last[0, 0] == 2
    assert isinstance(bad, OptionError)


def test_no_patches_give_no_embeddings() -> None:
    assert batching(Network(), n_active=lambda: 1)(patches(0, 0)).shape == (0, 128)


def test_batching_keeps_the_provenance() -> None:
    assert batching(Network()).provenance == {"name": "stand-in"}


@pytest.mark.parametrize("window_seconds", [0.0, 0.002])
def test_many_calls_from_few_threads_all_return(window_seconds: float) -> None:
    network = Network()
    embedder = batching(network, window_seconds=window_seconds, n_active=lambda: 4)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda i: embedder(patches(1, i))[0, 0], range(300)))
    assert found == list(range(300))
