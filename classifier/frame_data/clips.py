"""Labelled clips of frames, and the report on reading them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vggish.frames.clip import Frames


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """A sequence of frames with its labels.

    Attributes:
        clip_id: id in the record, or "<stem of the file>#<record number>" if it has none.
        frames: uint8 [n, 128], quantised embeddings.
        labels: distinct class indices; None if the record has no labels.
        embedder: name of the embedder, "" if the record does not name one.
        source: file and number of the record, for messages.
    """

    clip_id: str
    frames: Frames
    labels: tuple[int, ...] | None = None
    embedder: str = ""
    source: str = ""


class BadRecord(NamedTuple):
    """The place of a record or file that was skipped, and the reason."""

    where: str
    reason: str


@dataclass
class ReadReport:
    """Counts and problems from reading files of frames.

    Attributes:
        n_files: files read, including those that could not be opened.
        n_clips: clips read.
        n_unlabelled: clips without labels.
        n_without_id: clips without an id, which were given one.
        n_repeated_ids: clips whose id an earlier clip has; `load_clips` counts them.
        n_empty: records without frames, which were skipped.
        n_empty_files: files without records.
        kinds: number of clips by kind of record.
        embedders: number of clips by embedder, "" if the record does not name one.
        bad: records and files that were skipped because they are damaged or invalid.
    """

    n_files: int = 0
    n_clips: int = 0
    n_unlabelled: int = 0
    n_without_id: int = 0
    n_repeated_ids: int = 0
    n_empty: int = 0
    n_empty_files: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    embedders: Counter[str] = field(default_factory=Counter)
    bad: list[BadRecord] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Convert to a JSON object, with `n_bad`."""
        return {
            **{name: value for name, value in vars(self).items() if isinstance(value, int)},
            "n_bad": len(self.bad),
            "kinds": dict(self.kinds),
            "embedders": dict(self.embedders),
            "bad": [bad._asdict() for bad in self.bad],
        }

    def warnings(self) -> list[str]:
        """Sentences about records and clips that a user may not expect."""
        named = "; ".join(f"{where}: {reason}" for where, reason in self.bad[:3])
        bad = f"{len(self.bad)} ({named}{'; ...' if len(self.bad) > 3 else ''})"
        counts = {
            f"skipped damaged or invalid records or files: {bad}": len(self.bad),
            f"skipped records without frames: {self.n_empty}": self.n_empty,
            f"files without records: {self.n_empty_files}": self.n_empty_files,
            f"clips without an id, named FILE#NUMBER: {self.n_without_id}": self.n_without_id,
            f"clips with the id of another clip: {self.n_repeated_ids}": self.n_repeated_ids,
            f"clips without labels: {self.n_unlabelled} of {self.n_clips}": self.n_unlabelled,
        }
        return [sentence for sentence, count in counts.items() if count]
