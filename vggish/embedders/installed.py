"""Installed weights.

    $AUDIOTAG_HOME (default ~/.cache/audiotag)
    ├── vggish.lock                          held by the process that installs
    └── vggish/
        ├── installed.json                   lists the installed files; written last, atomically
        ├── float32-<sha>.onnx, int8-<sha>.onnx, pca-<sha>.npz
        ├── downloads/vggish_model.ckpt.part an unfinished download
        └── staging-*/                       an unfinished conversion

Files are named after their sha256, and only those listed in `installed.json` count. An
interruption at any moment therefore leaves either the old weights or the new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vggish.common.files import audiotag_home, file_problem
from vggish.embedders.manifest import KnownWeights, find_known
from vggish.errors import WeightsError, WeightsNotInstalledError

RECORD_NAME = "installed.json"

# Files that a conversion makes, by their keys in `InstalledWeights.files`.
CONVERTED_FILES = {"float32": "float32.onnx", "int8": "int8.onnx", "pca": "pca.npz"}


@dataclass(frozen=True)
class InstalledFile:
    """A file of an installation: its name in the directory, size in bytes, sha256."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class InstalledWeights:
    """The contents of `installed.json`, and its directory.

    `files` has the keys of `CONVERTED_FILES`; `facts` are measurements of the conversion, versions
    of packages, and the time.
    """

    name: str
    directory: Path
    checkpoint_sha256: str
    files: Mapping[str, InstalledFile]
    facts: Mapping[str, Any]

    def is_made_from(self, known: KnownWeights) -> bool:
        """Whether these weights were made from the files of an entry of a manifest."""
        sources = (self.checkpoint_sha256, self.files["pca"].sha256)
        return sources == (known.files["checkpoint"].sha256, known.files["pca"].sha256)

    def path(self, file: str) -> Path:
        """Path of "float32", "int8" or "pca"."""
        return self.directory / self.files[file].name


def find_installed(name: str = "vggish", *, verify: bool = False) -> InstalledWeights:
    """Find installed weights, and check the sizes of their files; with `verify` also checksums."""
    directory = audiotag_home() / name
    how_to_repair = f"Install them again: audiotag weights fetch {name}"
    try:
        record = json.loads((directory / RECORD_NAME).read_text("utf-8"))
        files = {key: InstalledFile(**file) for key, file in record["files"].items()}
        facts = dict(record["facts"])
        installed = InstalledWeights(name, directory, record["checkpoint_sha256"], files, facts)
        if files.keys() != CONVERTED_FILES.keys():
            raise ValueError(f"it must list {', '.join(CONVERTED_FILES)}")
        if not {"int8_fidelity", "installed_at"} <= facts.keys():
            raise ValueError("its facts lack int8_fidelity or installed_at")
    except FileNotFoundError as error:
        find_known(name)  # raises for an unknown name
        raise WeightsNotInstalledError(
            f"the weights {name!r} are not installed. Three ways to get them:\n"
            f"  audiotag weights fetch {name}             download (277 MiB) and convert them\n"
            "  audiotag weights install vggish_model.ckpt  convert a file downloaded elsewhere\n"
            "  AUDIOTAG_HOME=/a/directory                  use weights installed there\n"
            "The first two need TensorFlow once: pip install 'audiotag[train]'"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        record_path = directory / RECORD_NAME
        raise WeightsError(f"{record_path} is damaged ({error}).\n{how_to_repair}") from error
    for key, file in files.items():
        path = installed.path(key)
        problem = file_problem(path, file.size, file.sha256 if verify else None)
        if problem:
            raise WeightsError(
                f"the weights {name!r} are damaged: {path} {problem}.\n{how_to_repair}"
            )
    return installed
