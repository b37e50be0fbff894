"""A limited number of slots for concurrent operations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Gauge

from service.problems import Problem


@dataclass(eq=False)
class Slots:
    """Slots for one kind of operation, `what` in messages. Used from one event loop."""

    limit: int
    what: str
    gauge: Gauge
    n_taken: int = 0

    @contextlib.contextmanager
    def take(self, retry_after_seconds: float) -> Iterator[None]:
        """Hold a slot for the duration of the block; raise Problem if all are taken."""
        if self.n_taken >= self.limit:
            raise Problem(
                "overloaded",
                f"the service is at its limit of {self.limit} {self.what}; try again later",
                retry_after_seconds=retry_after_seconds,
            )
        self.n_taken += 1
        self.gauge.inc()
        try:
            yield
        finally:
            self.n_taken -= 1
            self.gauge.dec()
