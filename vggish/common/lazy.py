"""Package attributes that are imported on first use (PEP 562).

The package lazy_loader supports submodules of one package only; the public names of audiotag
come from several packages.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy_attributes(
    package: str, names_in: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Make `__getattr__`, `__dir__` and `__all__` of a package.

    `names_in` has its public names by the absolute name of their module.
    """
    module_of = {name: module for module, names in names_in.items() for name in names}

    def __getattr__(name: str) -> Any:  # noqa: N807 - as Python names it
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(module_of[name]), name)

    public = sorted(module_of)
    return __getattr__, lambda: public, public
