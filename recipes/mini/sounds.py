"""The sounds that mini learns from: which there are, which are kept out, their waveforms.

An index says which there are: a CSV with the columns path, source, label, seconds, extra. Of a
clip of ESC-50 `extra` must say `fold=N`; a clip of `audioset_pairs` is named by its video id.
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
# The ids of Freesound, where ESC-50 and UrbanSound8K both come from: a recording of which one
# has kept a part out must not be learnt from in the other.
_FREESOUND_ID = {"esc50": re.compile(r"\d-(\d+)-"), "urbansound8k": re.compile(r"(\d+)-")}


@dataclass(frozen=True)
class Sound:
    """A row of the index."""

    path: Path
    source: str
    label: str
    seconds: float
    extra: str

    @property
    def clip_id(self) -> str:
        """The file's name without its suffix."""
        return self.path.stem

    @property
    def recording(self) -> str:
        """What clips of one recording have in common."""
        pattern = _FREESOUND_ID.get(self.source)
        found = pattern.match(self.path.name) if pattern else None
        return f"freesound {found[1]}" if found else f"{self.source} {self.clip_id}"

    @property
    def fold(self) -> int | None:
        """Of ESC-50."""
        found = re.search(r"fold=(\d+)", self.extra)
        return int(found[1]) if found else None


def read_index(directory: Path) -> list[Sound]:
    """The sounds of `index.csv` in a directory, in the order of their paths."""
    with open(directory / "index.csv", newline="", encoding="utf-8") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    return [
        Sound(directory / r["path"], r["source"], r["label"], float(r["seconds"]), r["extra"])
        for r in rows
    ]


def parts(sounds: Sequence[Sound]) -> list[Part]:
    """Which sounds are learnt from, which choose, and which only measure.

    Measured on: fold 4 of ESC-50, a tenth of the pairs (by video id), a tenth of the
    recordings of UrbanSound8K. Of the rest a tenth of the recordings validates. Recordings stay
    together, across the collections.
    """
    kept_out = {sound.recording for sound in sounds if _is_measured_on(sound)}

    def part(sound: Sound) -> Part:
        if sound.recording in kept_out:
            return "test"
        return "validation" if _tenth(f"validation {sound.recording}") else "train"

    return [part(sound) for sound in sounds]


def _is_measured_on(sound: Sound) -> bool:
    if sound.source == "esc50":
        return sound.fold == TEST_FOLD
    return sound.source in (PAIRS, "urbansound8k") and _tenth(f"test {sound.recording}")


def _tenth(key: str) -> bool:
    return int(hashlib.sha256(key.encode()).hexdigest(), 16) % 10 == 0


def draw_weights(sounds: Sequence[Sound]) -> npt.NDArray[np.float64]:
    """How often each sound is drawn, [n], their sum 1.

    Long ones more often than short ones, and those of a large collection of one kind less.
    """
    sizes = Counter((sound.source, sound.label) for sound in sounds)
    weights = [
        np.sqrt(min(sound.seconds, 10.0)) / max(1.0, sizes[sound.source, sound.label] / 40)
        for sound in sounds
    ]
    shares: npt.NDArray[np.float64] = np.asarray(weights) / np.sum(weights)
    return shares


@dataclass(frozen=True, eq=False)
class Bank:
    """Waveforms in one array, 16 bits a sample, for they are many."""

    samples: npt.NDArray[np.int16]
    offsets: npt.NDArray[np.int64]

    def waveform(self, index: int) -> npt.NDArray[np.float32]:
        """float32 [n_samples] in [-1, 1] at 16 kHz."""
        part = self.samples[self.offsets[index] : self.offsets[index + 1]]
        return part.astype(np.float32) / np.float32(32768)


def load_bank(sounds: Sequence[Sound], path: Path) -> Bank:
    """The waveforms of sounds, decoded once into the file `path`.

    Raises:
        AudioError: a sound cannot be read.
    """
    if not path.exists():
        waveforms = []
        for sound in sounds:
            waveform = load_audio(sound.path)
            waveforms.append(np.clip(np.round(waveform * 32768), -32768, 32767).astype(np.int16))
        if not waveforms:
            raise AudioError("the index names no sounds")
        offsets = np.cumsum([0, *map(len, waveforms)])
        scratch = path.with_suffix(".part.npz")
        np.savez(scratch, samples=np.concatenate(waveforms), offsets=offsets)
        scratch.replace(path)
    with np.load(path) as file:
        bank = Bank(file["samples"], file["offsets"])
    if len(bank.offsets) != len(sounds) + 1:
        raise AudioError(f"{path} was made from another index; remove it")
    return bank


def seconds(bank: Bank) -> float:
    """Of all sounds together."""
    return float(bank.offsets[-1]) / SAMPLE_RATE_HZ
