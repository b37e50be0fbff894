"""Optional packages: imported where they are used, and named by pip line when missing."""

from __future__ import annotations

import importlib
from typing import Any

from vggish.errors import MissingPackageError


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        module: dotted name of the module to import.
        extra: the extra of the `audiotag` distribution that installs it.
        purpose: what needs it, as the subject of the error's first sentence.

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        # A broken dependency of an installed package must not be reported as "not installed".
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingPackageError(
            f"{purpose} needs the package {module!r}, which is not installed.\n"
            f"Install it with: pip install 'audiotag[{extra}]'"
        ) from error
