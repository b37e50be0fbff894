"""Labels of clips, from a CSV file."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Container, Iterator, Mapping
from pathlib import Path

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.errors import OptionError

CLIP_COLUMNS = ("clip", "video_id", "id", "fname", "filename", "file")

LABEL_COLUMNS = ("labels", "label", "positive_labels")


def read_clip_labels(
    path: Path, names: Mapping[str, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Class indices by clip id.

    Args:
        path: CSV with a column of clips (`clip`, `video_id`, `id`, `fname`, `filename` or
            `file`; with or without a suffix such as `.wav`) and one of labels (`labels`,
            `label` or `positive_labels`), which are indices or names, several parted by `|`, `;`
            or `,`. A clip may have several rows.
        names: index by name or AudioSet id, where labels are not indices.

    Raises:
        OptionError: the file cannot be read, lacks a column, or has an unknown label; the
            message says in which line.
    """
    labels: dict[str, tuple[int, ...]] = {}
    for line, row in _rows(path):
        clip = _column(row, CLIP_COLUMNS, path)
        text = _column(row, LABEL_COLUMNS, path)
        parts = split_labels(text, () if names is None else names)
        indices = tuple(_index(part, names, f"{path}, line {line}") for part in parts)
        for clip_id in {clip.strip(), _without_suffix(clip.strip())}:
            # The order of first mention, without repetitions.
            labels[clip_id] = tuple(dict.fromkeys((*labels.get(clip_id, ()), *indices)))
    return labels


def split_labels(text: str, names: Container[str] = ()) -> list[str]:
    """The labels in a cell of a CSV, parted by `|`, `;` or `,`.

    Args:
        text: of the cell.
        names: known ones; a name that holds a comma ("Child speech, kid speaking") stays whole.
    """
    parts = [text] if text.strip() in names else re.split(r"[|;]", text)
    pieces = [
        piece for part in parts for piece in ([part] if part.strip() in names else part.split(","))
    ]
    return [piece.strip() for piece in pieces if piece.strip()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True, restval="")
            for row in reader:
                yield reader.line_num, {k: v for k, v in row.items() if k is not None}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise OptionError(f"cannot read {path}: {error}") from error


def _column(row: Mapping[str, str], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in row:
            return row[name]
    raise OptionError(f"{path} needs a column {' or '.join(names)}. Received: {', '.join(row)}")


def _index(text: str, names: Mapping[str, int] | None, where: str) -> int:
    if names is not None and text in names:
        return names[text]
    if text.isascii() and text.isdigit():
        return int(text)
    hint = (
        "it is not in the label names" if names is not None else "name the classes: --label-names"
    )
    raise OptionError(f"{where}: {text!r} is no class index; {hint}")


def _without_suffix(clip: str) -> str:
    stem, suffix = os.path.splitext(clip)
    return stem if suffix.lower() in AUDIO_SUFFIXES else clip
