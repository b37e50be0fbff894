"""The manifest of known weights: addresses, sizes, checksums and licences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from vggish.embedders.download import RemoteFile
from vggish.embedders.mini import MINI
from vggish.errors import OptionError, WeightsError

_SMOKE_FIGURES = {"raw_mean", "raw_std", "frame_mean", "frame_std", "relative_tolerance"}


@dataclass(frozen=True)
class KnownWeights:
    """An entry of the manifest.

    Attributes:
        name: how the command line calls it.
        description, licence: for people.
        files: "checkpoint" and "pca".
        smoke_test: expected figures, see `convert.convert_checkpoint`; None if there are none.
    """

    name: str
    description: str
    licence: str
    files: Mapping[str, RemoteFile]
    smoke_test: dict[str, float] | None


def known_weights(manifest: Path | None = None) -> dict[str, KnownWeights]:
    """The entries of a manifest, audiotag's own by default.

    Raises:
        WeightsError: the file is no manifest.
    """
    source = resources.files("weights") / "manifest.json" if manifest is None else manifest
    try:
        entries = json.loads(source.read_text("utf-8"))
        return {name: _known(name, entry) for name, entry in entries.items()}
    except KeyError as error:
        raise WeightsError(f"{source} is no manifest of weights: it lacks {error}") from error
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{source} is no manifest of weights: {error}") from error


def _known(name: str, entry: Mapping[str, Any]) -> KnownWeights:
    files, smoke_test = entry["files"], entry.get("smoke_test")
    if smoke_test is not None and set(smoke_test) != _SMOKE_FIGURES:
        raise ValueError(f"smoke_test of {name!r} must have {', '.join(sorted(_SMOKE_FIGURES))}")
    return KnownWeights(
        name=name,
        description=entry["description"],
        licence=entry["licence"],
        files={key: RemoteFile(**files[key]) for key in ("checkpoint", "pca")},
        smoke_test=None if smoke_test is None else {k: float(v) for k, v in smoke_test.items()},
    )


def choose_known(name: str, manifest: Path | None = None) -> KnownWeights:
    """The entry of a manifest called `name`.

    Raises:
        OptionError: there is none, or it is built in.
        WeightsError: the file is no manifest.
    """
    if name == MINI:
        raise OptionError(
            f"{MINI} is built in, so there is nothing to fetch or install: --embedder {MINI}"
        )
    known = known_weights(manifest)
    if name not in known:
        raise OptionError(f"no weights are called {name!r}; there are: {', '.join([*known, MINI])}")
    return known[name]
