"""The number of CPU cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

# Linux states the quota and period of a container in microseconds, or "max".
_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def n_cores(cgroup: Path = _CGROUP_CPU) -> int:
    """Number of cores that this process may use: its affinity, limited by its container."""
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    n = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = cgroup.read_text().split()
        n = min(n, math.ceil(int(quota) / int(period)))
    return max(1, n)
