"""Limits on how many requests run and wait at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import Gauge

from service.problems import Problem


@dataclass(eq=False)
class Places:
    """Places for something that takes a while, of which there are only so many.

    Attributes:
        limit: how many there are.
        what: takes them, with its verb, for the sentence that refuses one more.
        gauge: shows how many are taken.
    """

    limit: int
    what: str
    gauge: Gauge
    n_taken: int = 0

    @contextlib.contextmanager
    def taken(self, retry_after_seconds: float) -> Iterator[None]:
        """Around what takes a place.

        Raises:
            Problem: none is left.
        """
        if self.n_taken >= self.limit:
            raise Problem(
                "overloaded",
                f"{self.n_taken} {self.what} already; try again in a while",
                retry_after_seconds=retry_after_seconds,
            )
        self.n_taken += 1
        self.gauge.inc()
        try:
            yield
        finally:
            self.n_taken -= 1
            self.gauge.dec()
