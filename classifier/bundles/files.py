"""The files of a bundle: checked and read, and written.

head.onnx    frames uint8 [batch, time, 128], n_frames int32 [batch] -> scores [batch, C],
             and frame_scores [batch, time, C] where the head has them
labels.csv   index, mid, display_name
bundle.json  the card: what the head is, what it was trained on, how good it is, checksums
weights.npz  the form that training goes on from; tagging does without it
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

from classifier.labels import Labels, read_labels
from classifier.names import CARD_FILE, HEAD_FILE, LABELS_FILE, RUN_BUNDLE
from vggish.common.checksums import sha256_of
from vggish.errors import BundleError, OptionError, first_line, write_errors_as
from vggish.params import VERSION

FORMAT = 1

HOW_TO_MAKE = (
    f"A bundle is a directory with {HEAD_FILE}, {LABELS_FILE} and {CARD_FILE}; "
    "make one with: audiotag export RUN -o DIR"
)

HOW_TO_REPAIR = "Fetch or copy it again, or make it again with: audiotag export RUN -o DIR"

_CARD_TYPES: dict[str, type] = {
    "name": str,
    "head": dict,
    "n_classes": int,
    "embedders": list,
    "activation": str,
    "files": dict,
}


class Contents(NamedTuple):
    """What is in a bundle: where it lies, its card, the classes, `head.onnx`."""

    directory: Path
    card: dict[str, Any]
    labels: Labels
    model: bytes


def read_bundle(directory: Path) -> Contents:
    """Read a bundle, once its files have their checksums.

    Args:
        directory: of a bundle, or of a run of training that has one in it; or the name of a
            bundle that comes with audiotag.

    Raises:
        BundleError: there is none, it is damaged, or it is of a newer format.
    """
    place = find_bundle(directory)
    card = _read_card(place)
    for name in (HEAD_FILE, LABELS_FILE):
        if name not in card["files"]:
            raise BundleError(f"{place / CARD_FILE} names no {name}.\n{HOW_TO_REPAIR}")
    for name, facts in card["files"].items():
        if name != HEAD_FILE:
            _check_file(place, name, facts)
    try:
        model = (place / HEAD_FILE).read_bytes()
    except OSError as error:
        raise BundleError(_missing(place, HEAD_FILE, error)) from error
    if hashlib.sha256(model).hexdigest() != _sha256_in(place, HEAD_FILE, card["files"][HEAD_FILE]):
        raise BundleError(_changed(place, HEAD_FILE))
    try:
        labels = read_labels(place / LABELS_FILE)
    except OptionError as error:
        raise BundleError(f"the labels of the bundle {place} are wrong: {error}") from error
    if len(labels) != card["n_classes"]:
        raise BundleError(
            f"the bundle {place} is damaged: {LABELS_FILE} has {len(labels)} classes, "
            f"{CARD_FILE} says {card['n_classes']}.\n{HOW_TO_REPAIR}"
        )
    return Contents(place, card, labels, model)


def write_bundle(
    directory: Path, files: Mapping[str, bytes], card: Mapping[str, Any], *, overwrite: bool = False
) -> None:
    """Write a bundle; the directory has its name only when the bundle is whole.

    Args:
        directory: of the bundle. An empty one may be there.
        files: contents by name, `head.onnx` and `labels.csv` among them; a name may have a
            directory before it.
        card: what `bundle.json` says; `format`, `audiotag_version` and `files` are added.
        overwrite: replace the bundle that is there. What is no bundle is never replaced.

    Raises:
        BundleError: the card or a file is missing, the directory is taken, or it cannot be
            written.
    """
    listed = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in files.items()
    }
    ours = {"format": FORMAT, "audiotag_version": VERSION}
    whole = {**ours, **card, **ours, "files": listed}
    _check_card(whole, "this card")
    for name in (HEAD_FILE, LABELS_FILE):
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
    """The bundles that come with audiotag, by name."""
    import weights

    root = Path(weights.__path__[0])
    return {path.parent.name: path.parent for path in sorted(root.glob(f"*/{CARD_FILE}"))}


def find_bundle(path: Path) -> Path:
    """The directory of a bundle: this one, that of a run, or one that comes with audiotag.

    Raises:
        BundleError: there is none.
    """
    for place in (path, path / RUN_BUNDLE, shipped_bundles().get(str(path), path)):
        if (place / CARD_FILE).is_file():
            return place
    if not path.exists():
        known = ", ".join(shipped_bundles()) or "none"
        trouble = f"there is no {path}, and no bundle of this name comes with audiotag ({known})"
    elif not path.is_dir():
        trouble = f"{path} is a file, no bundle"
    elif (path / "config.json").is_file():
        trouble = f"{path} is a run of training without a bundle"
    else:
        trouble = f"{path} is no bundle: it has no {CARD_FILE}"
    raise BundleError(f"{trouble}.\n{HOW_TO_MAKE}")


def _read_card(place: Path) -> dict[str, Any]:
    path = place / CARD_FILE
    try:
        card = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BundleError(f"cannot read {path}: {first_line(error)}.\n{HOW_TO_REPAIR}") from error
    _check_card(card, str(path))
    return dict(card)


def _check_card(card: Any, where: str) -> None:
    if not isinstance(card, dict) or not isinstance(card.get("format"), int):
        raise BundleError(f"{where} is no card of a bundle: it has no format.\n{HOW_TO_MAKE}")
    if card["format"] > FORMAT:
        raise BundleError(
            f"{where} has the format {card['format']}, and this audiotag ({VERSION}) knows "
            f"{FORMAT}. Get a newer one with: pip install --upgrade audiotag"
        )
    for key, kind in _CARD_TYPES.items():
        if not isinstance(card.get(key), kind):
            raise BundleError(
                f"{where} must have {key!r}, a {kind.__name__}. Received: {card.get(key)!r}"
            )


def _check_file(place: Path, name: str, facts: Any) -> None:
    path = place / _inside(name)
    expected = _sha256_in(place, name, facts)
    if not path.is_file() and name != LABELS_FILE:
        return  # what tagging does without may be deleted
    try:
        actual = sha256_of(path)
    except OSError as error:
        raise BundleError(_missing(place, name, error)) from error
    if actual != expected:
        raise BundleError(_changed(place, name))


def _sha256_in(place: Path, name: str, facts: Any) -> str:
    if not isinstance(facts, dict) or not isinstance(facts.get("sha256"), str):
        raise BundleError(f"{place / CARD_FILE} has no sha256 of {name}.\n{HOW_TO_REPAIR}")
    return str(facts["sha256"])


def _missing(place: Path, name: str, error: OSError) -> str:
    return (
        f"the bundle {place} is damaged: cannot read {name} ({error.strerror or error}).\n"
        f"{HOW_TO_REPAIR}"
    )


def _changed(place: Path, name: str) -> str:
    return (
        f"the bundle {place} is damaged: {name} is not the file that {CARD_FILE} describes "
        f"(its sha256 differs).\n{HOW_TO_REPAIR}"
    )


def _inside(name: str) -> PurePosixPath:
    """The name of a file as a path that cannot leave the bundle."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not path.parts:
        raise BundleError(f"the name of a file of a bundle must lie inside it. Received: {name!r}")
    return path


def _check_replaceable(target: Path, overwrite: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not (target / CARD_FILE).is_file():
        raise BundleError(f"{target} is there, and no bundle. Name another directory")
    if not overwrite:
        raise BundleError(
            f"{target} is a bundle already. Name another directory, or replace it with --overwrite"
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
    """Names in quotes, parted by commas."""
    return ", ".join(repr(name) for name in names) or "none"


Weights = dict[str, npt.NDArray[Any]]
