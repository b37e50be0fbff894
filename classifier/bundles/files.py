"""Reading and writing the files of a bundle.

head.onnx    frames uint8 [batch, time, 128], n_frames int32 [batch] -> scores [batch, C],
             and frame_scores [batch, time, C] if the head scores frames
labels.csv   index, mid, display_name
bundle.json  the card: the head, its input, training data, metrics, and checksums of the files
weights.npz  the weights, for fine-tuning; not needed for tagging

`input` in the card is {"kind": "frames", "embedders": [...]}. Older cards have only `embedders`,
which new ones keep, for older versions of audiotag.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy.typing as npt

import weights
from classifier.labels import Labels, read_labels
from classifier.names import CARD_FILE, HEAD_FILE, LABELS_FILE, RUN_BUNDLE
from vggish.errors import BundleError, OptionError, first_line, write_errors_as
from vggish.params import VERSION

Weights = dict[str, npt.NDArray[Any]]
FORMAT = 1
HOW_TO_MAKE = (
    f"A bundle is a directory with {HEAD_FILE}, {LABELS_FILE} and {CARD_FILE}; "
    "make one with: audiotag export RUN -o DIR"
)
HOW_TO_REPAIR = "Fetch or copy it again, or make it again with: audiotag export RUN -o DIR"
FRAMES_INPUT = "frames"
_REQUIRED = (HEAD_FILE, LABELS_FILE)
_CARD_TYPES: dict[str, type] = {
    "name": str,
    "head": dict,
    "n_classes": int,
    "embedders": list,
    "activation": str,
    "files": dict,
}


class Contents(NamedTuple):
    """The contents of a bundle: its directory, card, classes and `head.onnx`."""

    directory: Path
    card: dict[str, Any]
    labels: Labels
    model: bytes


def read_bundle(directory: Path) -> Contents:
    """Read a bundle and verify the checksums of its files.

    The directory may also be a training run that contains a bundle, or the name of a bundle that
    comes with audiotag. Raises a `BundleError` if there is none, it is damaged, or it needs a newer
    version.
    """
    directory = find_bundle(directory)
    card = _read_card(directory)
    for name in _REQUIRED:
        if name not in card["files"]:
            raise BundleError(f"{directory / CARD_FILE} does not list {name}.\n{HOW_TO_REPAIR}")
    for name, facts in card["files"].items():
        data = _read_file(directory, name, facts)
        if name == HEAD_FILE:
            model = data
    try:
        labels = read_labels(directory / LABELS_FILE)
    except OptionError as error:
        raise BundleError(f"the labels of the bundle {directory} are wrong: {error}") from error
    if len(labels) != card["n_classes"]:
        raise BundleError(
            f"the bundle {directory} is damaged: {LABELS_FILE} has {len(labels)} classes, "
            f"{CARD_FILE} says {card['n_classes']}.\n{HOW_TO_REPAIR}"
        )
    return Contents(directory, card, labels, model)


def write_bundle(
    directory: Path, files: Mapping[str, bytes], card: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a bundle; the directory gets its name only when the bundle is complete.

    Args:
        directory: of the bundle; an empty one may exist.
        files: contents by path, including `head.onnx` and `labels.csv`.
        card: contents of `bundle.json`, without `format`, `audiotag_version`, `input` and `files`.
        overwrite: replace an existing bundle; a directory that is not a bundle never is.
    """
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    ours = {"format": FORMAT, "audiotag_version": VERSION}
    whole = {**ours, **card, **ours, "files": listed}
    _check_card(whole, "this card")
    whole["input"] = {"kind": FRAMES_INPUT, "embedders": card["embedders"]}
    for name in _REQUIRED:
        if name not in files:
            raise BundleError(f"a bundle needs {name}. Received: {quoted(files)}")
    target = Path(os.path.realpath(directory))  # a link stays, and its target is written
    _check_replaceable(target, overwrite)
    try:
        text = json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise BundleError(f"the card of a bundle must be JSON: {error}") from error
    partial = target.with_name(f".audiotag-{secrets.token_hex(8)}.partial")
    try:
        with write_errors_as(BundleError, directory):
            for name, data in {**files, CARD_FILE: text + b"\n"}.items():
                path = partial / _inside(name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def shipped_bundles() -> dict[str, Path]:
    """Directories of the bundles that come with audiotag, by name."""
    root = Path(weights.__path__[0])
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{CARD_FILE}"))}


def find_bundle(path: Path) -> Path:
    """Find the directory of a bundle; see `read_bundle`."""
    for directory in (path, path / RUN_BUNDLE, shipped_bundles().get(str(path), path)):
        if (directory / CARD_FILE).is_file():
            return directory
    if not path.exists():
        known = ", ".join(shipped_bundles()) or "none"
        trouble = f"there is no {path}, and no bundle of this name comes with audiotag ({known})"
    elif not path.is_dir():
        trouble = f"{path} is a file, not a bundle"
    elif (path / "config.json").is_file():
        trouble = f"{path} is a training run without a bundle"
    else:
        trouble = f"{path} is not a bundle: it has no {CARD_FILE}"
    raise BundleError(f"{trouble}.\n{HOW_TO_MAKE}")


def _read_card(directory: Path) -> dict[str, Any]:
    path = directory / CARD_FILE
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {first_line(error)}.\n{HOW_TO_REPAIR}") from error
    _check_card(card, str(path))
    return dict(card)


def _check_card(card: Any, where: str) -> None:
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        raise BundleError(f"{where} is not the card of a bundle: it has no format.\n{HOW_TO_MAKE}")
    if card["format"] > FORMAT:
        raise _too_new(f"{where} has the format {card['format']}, but", f"reads {FORMAT}")
    source = card.get("input", {"kind": FRAMES_INPUT})
    if not isinstance(source, dict) or not isinstance(source.get("kind"), str):
        raise BundleError(
            f"{where} must have an 'input' with a kind. Received: {source!r}.\n{HOW_TO_REPAIR}"
        )
    if source["kind"] != FRAMES_INPUT:
        raise _too_new(f"the input of {where} is {source['kind']!r}, but", "takes only 'frames'")
    card.setdefault("embedders", source.get("embedders"))
    for key, kind in _CARD_TYPES.items():
        if not isinstance(card.get(key), kind):
            raise BundleError(
                f"{where} must have {key!r}, a {kind.__name__}. Received: {card.get(key)!r}"
            )


def _too_new(found: str, known: str) -> BundleError:
    return BundleError(
        f"{found} this audiotag ({VERSION}) {known}. Get a newer one with: pip install --upgrade "
        "audiotag"
    )


def _read_file(directory: Path, name: str, facts: Any) -> bytes:
    """Read a file and verify its checksum; empty if it is missing and tagging does not need it."""
    path = directory / _inside(name)
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise BundleError(f"{directory / CARD_FILE} has no sha256 for {name}.\n{HOW_TO_REPAIR}")
    if not path.is_file() and name not in _REQUIRED:
        return b""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"the bundle {directory} is damaged: cannot read {name} ({error.strerror or error}).\n"
            f"{HOW_TO_REPAIR}"
        ) from error
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise BundleError(
            f"the bundle {directory} is damaged: {name} is not the file that {CARD_FILE} lists "
            f"(its sha256 differs).\n{HOW_TO_REPAIR}"
        )
    return data


def _inside(name: str) -> PurePosixPath:
    """Path of a file within its bundle, which it cannot leave."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise BundleError(f"a file of a bundle must be inside it. Received: {name!r}")
    return path


def _check_replaceable(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / CARD_FILE).is_file():
        raise BundleError(f"{target} exists and is not a bundle. Choose another directory")
    if not overwrite:
        raise BundleError(
            f"{target} is already a bundle. Choose another directory, or use --overwrite"
        )


def _put_in_place(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    old = partial.with_suffix(".old")
    target.rename(old)
    try:
        partial.rename(target)
    except BaseException:
        old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def quoted(names: Iterable[str]) -> str:
    """Names in quotes, separated by commas."""
    return ", ".join(repr(name) for name in names) or "none"
