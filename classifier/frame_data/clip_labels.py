"""Read the labels of clips from a CSV file."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Mapping
from pathlib import Path

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.common.csv_table import read_table
from vggish.errors import OptionError

_COLUMNS = {
    "clip": ("clip", "video_id", "ytid", "id", "fname", "filename", "file", "slice_file_name"),
    "labels": ("labels", "label", "positive_labels"),
}


def read_clip_labels(
    path: Path, names: Mapping[str, int] | None = None
) -> dict[str, tuple[int, ...]]:
    """Read class indices by clip id from a CSV.

    It has a column of clip ids (`clip`, `video_id`, `ytid`, `id`, `fname`, `filename`, `file` or
    `slice_file_name`; with or without the suffix of an audio format) and a column of labels
    (`labels`, `label` or `positive_labels`): indices, or `names`, separated by `|`, `;` or `,`.
    Several rows of a clip add up.

    Raises an `OptionError` that names the line of a mistake.
    """
    labels: dict[str, tuple[int, ...]] = {}
    for line, row in read_table(path, "the labels", _COLUMNS, tuple(_COLUMNS)).rows:
        parts = split_labels(row["labels"], () if names is None else names)
        indices = [_index(part, names, f"{path}, line {line}") for part in parts]
        stem, suffix = os.path.splitext(row["clip"])
        for clip_id in {row["clip"], stem if suffix.lower() in AUDIO_SUFFIXES else row["clip"]}:
            labels[clip_id] = tuple(dict.fromkeys((*labels.get(clip_id, ()), *indices)))
    return labels


def split_labels(text: str, names: Container[str] = ()) -> list[str]:
    """Split the labels in a cell at `|`, `;` and `,`.

    A known name with a comma, as "Child speech, kid speaking", stays whole.
    """
    parts = [text] if text.strip() in names else re.split(r"[|;]", text)
    pieces = [
        piece for part in parts for piece in ([part] if part.strip() in names else part.split(","))
    ]
    return [piece.strip() for piece in pieces if piece.strip()]


def _index(text: str, names: Mapping[str, int] | None, where: str) -> int:
    if names is not None and text in names:
        return names[text]
    if text.isascii() and text.isdigit():
        return int(text)
    hint = "name the classes with --label-names" if names is None else "not in --label-names"
    raise OptionError(f"{where}: {text!r} is not a class index; {hint}")
