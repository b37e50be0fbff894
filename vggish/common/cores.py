"""The number of CPU cores this process may use."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path

_CGROUP_CPU = Path("/sys/fs/cgroup/cpu.max")


def n_cores(cgroup: Path = _CGROUP_CPU) -> int:
    """Cores that this process may use: its affinity, and the share that its container has.

    Args:
        cgroup: where Linux says how many microseconds of how many; "max" is no limit.
    """
    affinity = getattr(os, "sched_getaffinity", None)  # not on macOS and Windows
    n = len(affinity(0)) if affinity else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = cgroup.read_text().split()
        n = min(n, math.ceil(int(quota) / int(period)))
    return max(1, n)
