"""Dynamic batching: patches of several requests in one run of the network.

The first caller becomes the leader: it waits a moment for others, runs the network for all of
them, and hands out the results. There is no background thread to start, stop or lose.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from vggish.network.runtime import PatchEmbedder

Patches = npt.NDArray[np.floating]
Embeddings = npt.NDArray[np.float32]
_Entry = tuple[Patches, Future[Embeddings]]


@dataclass(eq=False)
class BatchingEmbedder:
    """A `PatchEmbedder` that runs the patches of concurrent callers together.

    While the network runs, new patches gather for the next run, so batches grow with the load. A
    single caller does not wait: `n_active` says how many callers may bring patches.

    Attributes:
        embedder: patches [n, 96, 64] -> embeddings [n, 128].
        window_seconds: how long the leader waits for others; 0 turns batching off.
        full_batch: number of patches from which on a batch does not wait.
        n_active: returns the number of callers that have patches or will have some soon,
            including the one that asks.
        on_batch: called with the number of patches and of callers of each batch.
    """

    embedder: PatchEmbedder
    window_seconds: float
    full_batch: int
    n_active: Callable[[], int]
    on_batch: Callable[[int, int], None] = lambda n_patches, n_callers: None

    def __post_init__(self) -> None:
        self._network = threading.Lock()
        self._changed = threading.Condition()
        self._waiting: list[_Entry] = []
        self._has_leader = False

    @property
    def provenance(self) -> dict[str, Any]:
        """See `PatchEmbedder`; batching does not change it."""
        return dict(self.embedder.provenance)

    def __call__(self, patches: Patches) -> Embeddings:
        """Embed patches [n, 96, 64] -> float32 [n, 128]; other callers' errors have no effect."""
        result: Future[Embeddings] = Future()
        if self.window_seconds == 0 or len(patches) >= self.full_batch:
            self._run([(patches, result)])
            return result.result()
        with self._changed:
            self._waiting.append((patches, result))
            is_leader = not self._has_leader
            self._has_leader = True
            self._changed.notify_all()
        if is_leader:
            self._gather()
            with self._network:
                with self._changed:
                    batch, self._waiting = self._waiting, []
                    self._has_leader = False
                self._run(batch)
        return result.result()

    def _gather(self) -> None:
        """Wait until the batch is full, all active callers are in it, or the window ends."""
        end = time.monotonic() + self.window_seconds
        with self._changed:
            while (
                sum(len(patches) for patches, _ in self._waiting) < self.full_batch
                and len(self._waiting) < self.n_active()
            ):
                left = end - time.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    return

    def _run(self, batch: list[_Entry]) -> None:
        """Run a batch; if it fails, run each entry alone, so that only the culprit fails."""
        patches = [patches for patches, _ in batch]
        try:
            joined = patches[0] if len(batch) == 1 else np.concatenate(patches)
            embeddings = self.embedder(joined)
            self.on_batch(len(joined), len(batch))
        except BaseException as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for entry in batch:
                self._run([entry])
            return
        parts = np.split(embeddings, np.cumsum([len(each) for each in patches])[:-1])
        for (_, result), part in zip(batch, parts, strict=True):
            result.set_result(part)
