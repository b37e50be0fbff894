"""The manifest of known weights: URLs, sizes, checksums and licences."""

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

_SMOKE_TEST_KEYS = {"raw_mean", "raw_std", "frame_mean", "frame_std", "relative_tolerance"}


@dataclass(frozen=True)
class KnownWeights:
    """An entry of the manifest.

    `files` has the keys "checkpoint" and "pca"; `smoke_test` has the expected statistics of
    `convert_checkpoint`, None to skip that test.
    """

    name: str
    description: str
    licence: str
    files: Mapping[str, RemoteFile]
    smoke_test: dict[str, float] | None


def known_weights(manifest: Path | None = None) -> dict[str, KnownWeights]:
    """Read the entries of a manifest by name, by default of audiotag's own."""
    source = resources.files("weights") / "manifest.json" if manifest is None else manifest
    try:
        entries = json.loads(source.read_text("utf-8"))
        return {name: _parse(name, entry) for name, entry in entries.items()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        reason = f"it lacks {error}" if isinstance(error, KeyError) else error
        raise WeightsError(f"{source} is not a manifest of weights: {reason}") from error


def _parse(name: str, entry: Mapping[str, Any]) -> KnownWeights:
    files, smoke_test = entry["files"], entry.get("smoke_test")
    if smoke_test is not None:
        if set(smoke_test) != _SMOKE_TEST_KEYS:
            expected = ", ".join(sorted(_SMOKE_TEST_KEYS))
            raise ValueError(f"smoke_test of {name!r} must have {expected}")
        smoke_test = {key: float(value) for key, value in smoke_test.items()}
    remote = {key: RemoteFile(**files[key]) for key in ("checkpoint", "pca")}
    return KnownWeights(name, entry["description"], entry["licence"], remote, smoke_test)


def find_known(name: str, manifest: Path | None = None) -> KnownWeights:
    """Look up an entry of a manifest; mini has none, as it is built in."""
    if name == MINI:
        raise OptionError(f"{MINI} is built in and needs no installation: use --embedder {MINI}")
    known = known_weights(manifest)
    if name not in known:
        raise OptionError(f"unknown weights {name!r}; known are: {', '.join([*known, MINI])}")
    return known[name]
