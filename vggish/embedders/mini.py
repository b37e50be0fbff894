"""mini, the small embedder that is part of audiotag.

    weights/mini/
    ├── mini.onnx   patches float32 [n, 96, 64] -> whitened embeddings float32 [n, 128]
    ├── card.json   version, checksum, size, precision, licence, training data and metrics
    └── README.md   the same for people

It predicts VGGish's embeddings after the PCA, so only the quantiser follows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from vggish.common.choices import PRECISIONS, Precision, check_choice
from vggish.common.files import file_problem
from vggish.errors import WeightsError, WeightsNotInstalledError

MINI: Final = "mini"
_HOW_TO_REPAIR = "Reinstall audiotag, or get VGGish: audiotag weights fetch vggish"


@dataclass(frozen=True)
class Mini:
    """The contents of mini's card; `sha256` and `size`, in bytes, are of the ONNX file `path`."""

    directory: Path
    version: str
    sha256: str
    size: int
    precision: Precision
    n_parameters: int
    licence: str

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return self.directory / "mini.onnx"


def mini_directory() -> Path:
    """Directory of mini, in the package `weights`."""
    return Path(str(resources.files("weights"))) / MINI


def find_mini(*, verify: bool = False) -> Mini:
    """Find the built-in embedder, and check its size; with `verify` also its checksum."""
    directory = mini_directory()
    card_path = directory / "card.json"
    try:
        card = json.loads(card_path.read_text("utf-8"))
        check_choice("precision", card["precision"], PRECISIONS)
        mini = Mini(
            directory=directory,
            version=str(card["version"]),
            sha256=str(card["sha256"]),
            size=int(card["size"]),
            precision=card["precision"],
            n_parameters=int(card["n_parameters"]),
            licence=str(card["licence"]),
        )
        mini.path.stat()
    except FileNotFoundError as error:
        raise WeightsNotInstalledError(
            f"the built-in embedder mini is missing: no file at {error.filename}.\n{_HOW_TO_REPAIR}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{card_path} is damaged ({error}).\n{_HOW_TO_REPAIR}") from error
    problem = file_problem(mini.path, mini.size, mini.sha256 if verify else None)
    if problem:
        raise WeightsError(
            f"the embedder mini is damaged: {mini.path} {problem}.\n{_HOW_TO_REPAIR}"
        )
    return mini
