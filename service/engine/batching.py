"""Patches of several requests in one run of the network.

Whoever comes first leads: it waits a moment for others, runs the network for all of them, and
hands out what is theirs. There is no thread of its own to start, stop or lose.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.network.runtime import PatchEmbedder

Patches = npt.NDArray[np.floating]

Embeddings = npt.NDArray[np.float32]

# Called with the number of patches and of callers of each batch.
OnBatch = Callable[[int, int], None]


@dataclass(eq=False)
class _Entry:
    """The patches of one caller, and what becomes of them."""

    patches: Patches
    done: threading.Event = field(default_factory=threading.Event)
    embeddings: Embeddings | None = None
    error: BaseException | None = None


class BatchingEmbedder:
    """An embedder that runs the patches of concurrent callers together. See `PatchEmbedder`.

    While the network runs, what arrives gathers for the next run, so batches grow with the load.
    A caller that is alone does not wait: `n_active` tells how many may still bring patches.

    Args:
        embedder: patches [n, 96, 64] -> embeddings [n, 128].
        window_seconds: how long the first caller waits for others; 0 runs each caller's patches
            by themselves.
        full_batch: no waiting once there are so many.
        n_active: how many callers there are that have patches now or will have some soon, the
            one that asks included.
        on_batch: told of each batch.
    """

    def __init__(
        self,
        embedder: PatchEmbedder,
        *,
        window_seconds: float,
        full_batch: int,
        n_active: Callable[[], int],
        on_batch: OnBatch | None = None,
    ) -> None:
        self._embedder = embedder
        self._window_seconds = window_seconds
        self._full_batch = full_batch
        self._n_active = n_active
        self._on_batch = on_batch
        self._network = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._has_leader = False

    @property
    def provenance(self) -> dict[str, Any]:
        """That of the embedder itself: batching changes nothing."""
        return dict(self._embedder.provenance)

    def __call__(self, patches: Patches) -> Embeddings:
        """Patches [n, 96, 64] -> embeddings float32 [n, 128], n any number.

        Raises:
            OptionError: the patches have another shape; only their own caller hears of it.
        """
        if self._window_seconds == 0 or len(patches) >= self._full_batch:
            return self._run([_Entry(patches)])
        entry = _Entry(patches)
        with self._changed:
            self._waiting.append(entry)
            leads = not self._has_leader
            self._has_leader = True
            self._changed.notify_all()
        if leads:
            self._lead()
        entry.done.wait()
        if entry.error is not None:
            raise entry.error
        assert entry.embeddings is not None
        return entry.embeddings

    def _lead(self) -> None:
        """Gather a batch, and run it once the network is free."""
        self._gather()
        with self._network:
            with self._changed:
                batch, self._waiting = self._waiting, []
                self._has_leader = False
            self._run_for_all(batch)

    def _gather(self) -> None:
        end = time.monotonic() + self._window_seconds
        with self._changed:
            while not self._is_enough():
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return

    def _is_enough(self) -> bool:
        n_patches = sum(len(entry.patches) for entry in self._waiting)
        return n_patches >= self._full_batch or len(self._waiting) >= self._n_active()

    def _run_for_all(self, batch: list[_Entry]) -> None:
        try:
            self._run(batch)
        except BaseException as error:  # each caller gets what it would have got alone
            if len(batch) == 1:
                batch[0].error = error
                batch[0].done.set()
                return
            for entry in batch:
                self._run_for_all([entry])

    def _run(self, batch: list[_Entry]) -> Embeddings:
        patches = [entry.patches for entry in batch]
        joined = patches[0] if len(batch) == 1 else np.concatenate(patches)
        embeddings = self._embedder(joined)
        if self._on_batch is not None:
            self._on_batch(len(joined), len(batch))
        stop = 0
        for entry in batch:
            start, stop = stop, stop + len(entry.patches)
            entry.embeddings = embeddings[start:stop]
            entry.done.set()
        return embeddings
