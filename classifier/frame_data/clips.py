"""Labelled clips of frames, and the report of reading them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from vggish.frames.clip import Frames


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """One sequence of frames, with its labels.

    Attributes:
        clip_id: as the record has it; "<file's stem>#<record number>" where it has none.
        frames: uint8 [n, 128], codes of the quantiser.
        labels: class indices, all different; None where the record has none.
        embedder: name of what made the frames, "" where the record does not say.
        source: file and number of the record.
    """

    clip_id: str
    frames: Frames
    labels: tuple[int, ...] | None = None
    embedder: str = ""
    source: str = ""


class BadRecord(NamedTuple):
    """A record, or a file, that was left out: where it is and what is wrong with it."""

    where: str
    reason: str


@dataclass
class ReadReport:
    """What was seen while files were read.

    Attributes:
        n_files: files opened, or that could not be.
        n_clips: clips given.
        n_unlabelled: of these, how many have no labels.
        n_without_id: of these, how many had no id and were given one.
        n_repeated_ids: of these, how many have the id of an earlier one; `load_clips` counts it.
        n_empty: records without frames, left out.
        n_empty_files: files without records.
        kinds: clips by kind of record.
        embedders: clips by the name of the embedder, "" where the record does not say.
        bad: what was left out because it is damaged or not what it should be.
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
        """All of it, JSON-ready, with `n_bad`."""
        counts = {name: value for name, value in vars(self).items() if isinstance(value, int)}
        return {
            **counts,
            "n_bad": len(self.bad),
            "kinds": dict(self.kinds),
            "embedders": dict(self.embedders),
            "bad": [bad._asdict() for bad in self.bad],
        }

    def warnings(self) -> list[str]:
        """Sentences about what a user should know before trusting the rest."""
        shown = "; ".join(f"{where}: {reason}" for where, reason in self.bad[:3])
        bad = f"{len(self.bad)} ({shown}{'; ...' if len(self.bad) > 3 else ''})"
        sentences = {
            f"damaged or unfit records or files, left out: {bad}": len(self.bad),
            f"records without frames, left out: {self.n_empty}": self.n_empty,
            f"files without records: {self.n_empty_files}": self.n_empty_files,
            f"clips without an id, called FILE#NUMBER: {self.n_without_id}": self.n_without_id,
            f"clips with the id of another one: {self.n_repeated_ids}": self.n_repeated_ids,
            f"clips without labels: {self.n_unlabelled} of {self.n_clips}": self.n_unlabelled,
        }
        return [sentence for sentence, count in sentences.items() if count]
