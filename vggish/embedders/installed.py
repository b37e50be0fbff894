"""Weights on this machine: what is known, what is installed, and how it gets there.

    $AUDIOTAG_HOME (default ~/.cache/audiotag)
    ├── vggish.lock                          held by the process that installs
    └── vggish/
        ├── installed.json                   what is installed; written last, atomically
        ├── float32-<sha>.onnx, int8-<sha>.onnx, pca-<sha>.npz
        ├── downloads/vggish_model.ckpt.part a download under way, or what a broken one left
        └── staging-*/                       a conversion under way, or what a killed one left

Files bear the first digits of their sha256. Until `installed.json` names them they do not
count, so an interruption at any moment leaves either the old weights or the new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vggish.common.checksums import sha256_of
from vggish.common.choices import Device, Precision
from vggish.common.files import audiotag_home
from vggish.embedders.manifest import choose_known
from vggish.errors import WeightsError, WeightsNotInstalledError
from vggish.network.runtime import Embedder, check_precision
from vggish.postprocess import Pca, load_pca

if TYPE_CHECKING:
    from vggish.embedders.manifest import KnownWeights


INSTALLED = "installed.json"

# What a conversion makes, by the key it has in `InstalledWeights.files`.
HOW_TO_INSTALL = {"float32": "float32.onnx", "int8": "int8.onnx", "pca": "pca.npz"}


@dataclass(frozen=True)
class InstalledFile:
    """A file of an installation: its name in the directory, size in bytes, sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class InstalledWeights:
    """What `installed.json` says, and where it lies.

    Attributes:
        name: "vggish".
        directory: where the files are.
        checkpoint_sha256: of the checkpoint they were made from.
        files: "float32", "int8" and "pca".
        facts: what the conversion measured, versions, and the time.
    """

    name: str
    directory: Path
    checkpoint_sha256: str
    files: Mapping[str, InstalledFile]
    facts: Mapping[str, Any]

    def is_made_from(self, known: KnownWeights) -> bool:
        """Whether these are the weights that an entry of a manifest describes."""
        ours = (self.checkpoint_sha256, self.files["pca"].sha256)
        return ours == (known.files["checkpoint"].sha256, known.files["pca"].sha256)

    def path(self, file: str) -> Path:
        """Path of "float32", "int8" or "pca"."""
        return self.directory / self.files[file].name


def find_installed(name: str = "vggish") -> InstalledWeights:
    """The installed weights called `name`; sizes are checked, checksums are not.

    Raises:
        WeightsNotInstalledError: they are not installed.
        WeightsError: they are, and a file is missing or has another size.
    """
    directory = audiotag_home() / name
    try:
        record = json.loads((directory / INSTALLED).read_text("utf-8"))
        installed = InstalledWeights(
            name=name,
            directory=directory,
            checkpoint_sha256=record["checkpoint_sha256"],
            files={key: InstalledFile(**file) for key, file in record["files"].items()},
            facts=dict(record["facts"]),
        )
        if installed.files.keys() != HOW_TO_INSTALL.keys():
            raise ValueError(f"it must name {', '.join(HOW_TO_INSTALL)}")
        if not {"int8_fidelity", "installed_at"} <= installed.facts.keys():
            raise ValueError("its facts lack int8_fidelity or installed_at")
    except FileNotFoundError as error:
        choose_known(name)  # an unknown name has another error
        raise WeightsNotInstalledError(_how_to_get(name)) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{directory / INSTALLED} is damaged ({error}).\n{_how_to_repair(name)}"
        ) from error
    for key, file in installed.files.items():
        path = installed.path(key)
        size = path.stat().st_size if path.is_file() else None
        if size != file.size:
            found = "is missing" if size is None else f"has {size:,} bytes, not {file.size:,}"
            raise WeightsError(
                f"the weights {name!r} are damaged: {path} {found}.\n{_how_to_repair(name)}"
            )
    return installed


def verify(name: str = "vggish") -> InstalledWeights:
    """Check every installed file of `name` against its sha256.

    Raises:
        WeightsNotInstalledError: they are not installed.
        WeightsError: a file is missing or changed.
    """
    installed = find_installed(name)
    for key, file in installed.files.items():
        path = installed.path(key)
        digest = sha256_of(path)
        if digest != file.sha256:
            raise WeightsError(
                f"the weights {name!r} are damaged: {path} has the sha256 {digest}, not "
                f"{file.sha256}.\n{_how_to_repair(name)}"
            )
    return installed


def load_embedder(
    name: str = "vggish", *, precision: Precision = "float32", device: Device = "auto"
) -> tuple[Embedder, Pca]:
    """The installed network called `name`, and the PCA of its space (mini: `embedders.load`).

    Raises:
        WeightsNotInstalledError: it is not installed; the message says how to get it.
        WeightsError: its files are damaged.
        OptionError: an unknown precision or device.
    """
    installed = find_installed(name)
    check_precision(precision)
    embedder = Embedder(
        installed.path(precision),
        name=name,
        weights_sha256=installed.checkpoint_sha256,
        model_sha256=installed.files[precision].sha256,
        precision=precision,
        device=device,
    )
    return embedder, load_pca(installed.path("pca"))


def _how_to_repair(name: str) -> str:
    return f"Install them again: audiotag weights fetch {name}"


def _how_to_get(name: str) -> str:
    return (
        f"the weights {name!r} are not installed. Three ways to get them:\n"
        f"  audiotag weights fetch {name}             downloads 277 MiB and converts them\n"
        "  audiotag weights install vggish_model.ckpt  the same with a file fetched elsewhere\n"
        "  AUDIOTAG_HOME=/a/directory                  where they are installed already\n"
        "The first two need TensorFlow once: pip install 'audiotag[train]'"
    )
