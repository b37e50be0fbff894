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
        MissingPackageError: the package is not installed, or cannot be loaded.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name in (package, module)
        # A broken installation must not be reported as none.
        trouble = "which is not installed" if absent else f"which cannot be loaded ({error})"
        option = "" if absent else "--force-reinstall "
        raise MissingPackageError(
            f"{purpose} needs the package {package!r}, {trouble}.\n"
            f"Install it with: pip install {option}'audiotag[{extra}]'"
        ) from error
