"""mini, the embedder that comes with audiotag: small, and at home in VGGish's whitened space.

    weights/mini/
    ├── mini.onnx   patches float32 [n, 96, 64] -> whitened embeddings float32 [n, 128]
    ├── card.json   version, checksum, size, precision, licence; how it was trained, what it reaches
    └── README.md   the same for people

Its output is where VGGish's is after the PCA, so that only the quantiser follows.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Final

from vggish.common.checksums import sha256_of
from vggish.common.choices import Precision
from vggish.errors import WeightsError, WeightsNotInstalledError
from vggish.network.runtime import check_precision

MINI: Final = "mini"

_HOW_TO_REPAIR = "Install audiotag again, or get VGGish: audiotag weights fetch vggish"


@dataclass(frozen=True)
class Mini:
    """What the card says of mini, and where it lies.

    Attributes:
        directory: where the files are.
        version: of the network; another one makes other frames.
        sha256, size: of the file; the size in bytes.
        precision: the only one that it has.
        n_parameters: of the network.
        licence: of the network.
    """

    directory: Path
    version: str
    sha256: str
    size: int
    precision: Precision
    n_parameters: int
    licence: str

    @property
    def path(self) -> Path:
        """The network's file."""
        return self.directory / "mini.onnx"


def mini_directory() -> Path:
    """Where mini lies: in the package `weights`."""
    return Path(str(resources.files("weights"))) / MINI


def find_mini() -> Mini:
    """The built-in embedder; its size is checked, its checksum is not.

    Raises:
        WeightsNotInstalledError: its files are not there.
        WeightsError: they are, and are damaged.
    """
    directory = mini_directory()
    card_path = directory / "card.json"
    try:
        card = json.loads(card_path.read_text("utf-8"))
        check_precision(card["precision"])
        mini = Mini(
            directory=directory,
            version=str(card["version"]),
            sha256=str(card["sha256"]),
            size=int(card["size"]),
            precision=card["precision"],
            n_parameters=int(card["n_parameters"]),
            licence=str(card["licence"]),
        )
        size = mini.path.stat().st_size
    except FileNotFoundError as error:
        raise WeightsNotInstalledError(
            f"the embedder mini, which comes with audiotag, is missing: no file at "
            f"{error.filename}.\n{_HOW_TO_REPAIR}"
        ) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{card_path} is damaged ({error}).\n{_HOW_TO_REPAIR}") from error
    if size != mini.size:
        raise _damaged(mini, f"has {size:,} bytes, not {mini.size:,}")
    return mini


def verify_mini() -> Mini:
    """The built-in embedder, checked against its sha256.

    Raises:
        WeightsNotInstalledError: its files are not there.
        WeightsError: they are, and are damaged.
    """
    mini = find_mini()
    digest = sha256_of(mini.path)
    if digest != mini.sha256:
        raise _damaged(mini, f"has the sha256 {digest}, not {mini.sha256}")
    return mini


def _damaged(mini: Mini, how: str) -> WeightsError:
    return WeightsError(f"the embedder mini is damaged: {mini.path} {how}.\n{_HOW_TO_REPAIR}")
