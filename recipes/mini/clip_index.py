"""The clips that mini is trained on: their index, their split, and their waveforms.

The index is a CSV with the columns path, source, label, seconds and extra. For clips of ESC-50,
`extra` must contain `fold=N`; clips of `audioset_pairs` are named by their video id.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from vggish.audio.stream import load_audio
from vggish.errors import AudioError
from vggish.params import SAMPLE_RATE_HZ

Part = Literal["train", "validation", "test"]
PAIRS = "audioset_pairs"
TEST_FOLD = 4
# Freesound ids: ESC-50 and UrbanSound8K share recordings, which must be on the same side of the
# split in both.
_FREESOUND_ID = {"esc50": re.compile(r"\d-(\d+)-"), "urbansound8k": re.compile(r"(\d+)-")}


@dataclass(frozen=True)
class IndexedClip:
    """A row of the index."""

    path: Path
    source: str
    label: str
    seconds: float
    extra: str

    @property
    def clip_id(self) -> str:
        """The name of the file without its suffix."""
        return self.path.stem

    @property
    def recording(self) -> str:
        """An id that all clips of one recording share."""
        pattern = _FREESOUND_ID.get(self.source)
        found = pattern.match(self.path.name) if pattern else None
        return f"freesound {found[1]}" if found else f"{self.source} {self.clip_id}"

    @property
    def fold(self) -> int | None:
        """The fold of a clip of ESC-50."""
        found = re.search(r"fold=(\d+)", self.extra)
        return int(found[1]) if found else None


def read_index(directory: Path) -> list[IndexedClip]:
    """Read the clips of `index.csv` in a directory, in the order of their paths."""
    with open(directory / "index.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    return [
        IndexedClip(directory / r["path"], r["source"], r["label"], float(r["seconds"]), r["extra"])
        for r in rows
    ]


def parts(clips: Sequence[IndexedClip]) -> list[Part]:
    """Split the clips into training, validation and test.

    The test part is fold 4 of ESC-50, a tenth of the pairs (by video id), and a tenth of the
    recordings of UrbanSound8K. A tenth of the remaining recordings is for validation. All clips of
    a recording are in the same part, across collections.
    """
    test_recordings = {clip.recording for clip in clips if _is_test_clip(clip)}

    def part(clip: IndexedClip) -> Part:
        if clip.recording in test_recordings:
            return "test"
        return "validation" if _tenth(f"validation {clip.recording}") else "train"

    return [part(clip) for clip in clips]


def _is_test_clip(clip: IndexedClip) -> bool:
    if clip.source == "esc50":
        return clip.fold == TEST_FOLD
    return clip.source in (PAIRS, "urbansound8k") and _tenth(f"test {clip.recording}")


def _tenth(key: str) -> bool:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 == 0


def draw_weights(clips: Sequence[IndexedClip]) -> npt.NDArray[np.float64]:
    """Return the probability of drawing each clip, [n].

    Long clips are drawn more often than short ones, and clips of large classes less often.
    """
    sizes = Counter((clip.source, clip.label) for clip in clips)
    weights = [
        np.sqrt(min(clip.seconds, 10.0)) / max(1.0, sizes[clip.source, clip.label] / 40)
        for clip in clips
    ]
    shares: npt.NDArray[np.float64] = np.asarray(weights) / np.sum(weights)
    return shares


@dataclass(frozen=True, eq=False)
class Bank:
    """All waveforms in one array, with 16 bits for each sample to save memory."""

    samples: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]

    def waveform(self, index: int) -> npt.NDArray[np.float32]:
        """Return a waveform, float32 [n_samples] in [-1, 1] at 16 kHz."""
        part = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return part.astype(np.float32) / np.float32(32768)


def load_bank(clips: Sequence[IndexedClip], path: Path) -> Bank:
    """Load the waveforms of clips, decoding them into the file `path` if it does not exist.

    Raises:
        AudioError: a clip cannot be read.
    """
    if not path.exists():
        waveforms = []
        for clip in clips:
            waveform = load_audio(clip.path)
            waveforms.append(np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16))
        if not waveforms:
            raise AudioError("the index contains no clips")
        offsets = np.cumsum([0, *map(len, waveforms)])
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, samples=np.concatenate(waveforms), offsets=offsets)
        scratch.replace(path)
    with np.load(path) as file:
        bank = Bank(file["samples"], file["offsets"])
    if len(bank.offsets) != len(clips) + 1:
        raise AudioError(f"{path} was made from another index; remove it and run again")
    return bank


def total_seconds(bank: Bank) -> float:
    """Return the duration of all clips together."""
    return float(bank.offsets[-1]) / SAMPLE_RATE_HZ
