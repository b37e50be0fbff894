"""Import optional packages; if one is missing, the error has the pip command."""

from __future__ import annotations

import importlib
from typing import Any

from vggish.errors import MissingPackageError


def import_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Import an optional package; `MissingPackageError` if it is missing or cannot be loaded.

    `extra` is the extra of `audiotag` that installs it; `purpose` is the feature that needs it,
    the subject of the error message.
    """
    package = module.split(".")[0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        absent = isinstance(error, ModuleNotFoundError) and error.name in (package, module)
        # A broken installation must not be reported as a missing one.
        problem = "which is not installed" if absent else f"which cannot be loaded ({error})"
        option = "" if absent else "--force-reinstall "
        raise MissingPackageError(
            f"{purpose} needs the package {package!r}, {problem}.\n"
            f"Install it with: pip install {option}'audiotag[{extra}]'"
        ) from error
