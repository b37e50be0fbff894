"""Sounds that are kept out, and again among those to learn from under another name.

    python -m recipes.mini.duplicates --sounds DIR --work DIR

Collections of sounds borrow from each other, and the same second of sound may lie in two of them,
louder or quieter, cut elsewhere, coded again. The loudest seconds of each kept-out sound are
looked for in all others: first in log-mel, whose fluctuations about the mean of each band are as
good as unique, then in the waveforms, which must agree too. What is found is written into
`duplicates.csv` beside this file, and `parts` does not measure on it.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recipes.mini.sounds import DUPLICATES, Bank, Sound, load_bank, parts, read_index
from vggish.mel_features import log_mel_spectrogram
from vggish.params import STFT_HOP_SAMPLES, STFT_WINDOW_SAMPLES

FloatArray = npt.NDArray[np.float32]

_POOLED_FRAMES, _POOLED_BANDS = 5, 4
_ROW_SAMPLES = _POOLED_FRAMES * STFT_HOP_SAMPLES
# Looked for: so many rows, of so many places of a sound, each also half a row later.
_ROWS, _PLACES = 20, 3
# The last frame of a row reaches beyond it.
_TAIL_SAMPLES = STFT_WINDOW_SAMPLES - STFT_HOP_SAMPLES
_PHASES = (0, _ROW_SAMPLES // 2)
# Of both correlations; chosen beforehand, and tried on made sounds.
LIKE_IN_LOG_MEL, LIKE_IN_WAVEFORM = 0.75, 0.5
# So many rows are looked through at once.
_BLOCK_ROWS = 1 << 12
# A second that hardly fluctuates is like any other such.
_LEAST_NORM = 2.0
_LOUDEST = 0.1


@dataclass(frozen=True)
class Duplicate:
    """Two indices of sounds, and how like they are, -1 to 1, in log-mel and as waveforms."""

    kept_out: int
    learnt: int
    in_log_mel: float
    in_waveform: float


def known_duplicates() -> dict[str, list[str]]:
    """Paths of kept-out sounds -> those of the sounds to learn from that repeat them."""
    found: dict[str, list[str]] = {}
    with open(DUPLICATES, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            found.setdefault(row["kept_out"], []).append(row["learnt"])
    return found


def find_duplicates(bank: Bank, kept_out: Sequence[int], learnt: Sequence[int]) -> list[Duplicate]:
    """The sounds to learn from that hold a second of a kept-out sound, the likest first."""
    templates, places = _templates(bank, kept_out)
    if not places:
        return []
    candidates: dict[tuple[int, int], tuple[float, int, int]] = {}
    for indices, starts, rows in _blocks(bank, learnt):
        alike = _correlations(rows, templates)
        for start in starts[1:]:
            alike[start - _ROWS + 1 : start] = 0  # those lie in two sounds
        best = np.maximum.reduceat(alike, starts, axis=0)
        for owner, template in np.argwhere(best >= LIKE_IN_LOG_MEL):
            kept, at = places[template]
            key, found = (kept, indices[owner]), float(best[owner, template])
            if found > candidates.get(key, (0.0,))[0]:
                of_owner = alike[slice(*[*starts, len(alike)][owner : owner + 2]), template]
                candidates[key] = found, at, int(of_owner.argmax()) * _ROW_SAMPLES
    duplicates = [
        Duplicate(kept, other, found, _in_waveform(bank, kept, at, other, there))
        for (kept, other), (found, at, there) in candidates.items()
    ]
    alike_twice = [d for d in duplicates if d.in_waveform >= LIKE_IN_WAVEFORM]
    return sorted(alike_twice, key=lambda d: -d.in_waveform)


def _rows(waveform: FloatArray) -> FloatArray:
    """Waveform -> pooled log-mel [n, 16], every 50 ms; it does not depend on the gain."""
    n_rows = len(waveform) // _ROW_SAMPLES
    blocks = waveform[: n_rows * _ROW_SAMPLES].reshape(n_rows, _ROW_SAMPLES)
    loudest = np.sqrt(np.square(blocks).mean(axis=1).max(initial=0.0))
    if loudest == 0:
        return np.zeros((0, 16), np.float32)
    log_mel = log_mel_spectrogram(waveform * np.float32(_LOUDEST / loudest))
    n = len(log_mel) // _POOLED_FRAMES
    pooled = log_mel[: n * _POOLED_FRAMES].reshape(n, _POOLED_FRAMES, -1, _POOLED_BANDS)
    return pooled.mean(axis=(1, 3)).astype(np.float32)


def _templates(bank: Bank, indices: Sequence[int]) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Unit templates [n, 20, 16], and of each the sound and the sample where it begins."""
    templates, places = [], []
    for index in indices:
        waveform = bank.waveform(index)
        for at in _loudest_places(waveform):
            for phase in _PHASES:
                first = at + phase
                window = _rows(waveform[first : first + _ROWS * _ROW_SAMPLES + _TAIL_SAMPLES])
                if len(window) != _ROWS:
                    continue
                window = window - window.mean(axis=0)
                norm = float(np.linalg.norm(window))
                if norm >= _LEAST_NORM:
                    templates.append(window / norm)
                    places.append((index, first))
    return np.array(templates, np.float32).reshape(-1, _ROWS, 16), places


def _loudest_places(waveform: FloatArray) -> list[int]:
    """Where the loudest seconds begin that do not overlap."""
    n_rows = len(waveform) // _ROW_SAMPLES
    powers = np.square(waveform[: n_rows * _ROW_SAMPLES]).reshape(n_rows, -1).sum(axis=1)
    if n_rows < _ROWS:
        return []
    of_second = np.convolve(powers, np.ones(_ROWS), "valid")
    places: list[int] = []
    while len(places) < _PLACES and of_second.max() > 0:
        best = int(of_second.argmax())
        places.append(best * _ROW_SAMPLES)
        of_second[max(0, best - _ROWS + 1) : best + _ROWS] = 0
    return places


def _blocks(
    bank: Bank, indices: Sequence[int]
) -> Iterator[tuple[list[int], list[int], FloatArray]]:
    """Rows of several sounds at a time: which sounds, where each begins, the rows."""
    some: list[int] = []
    starts: list[int] = []
    parts_: list[FloatArray] = []
    n_rows = 0
    for index in indices:
        rows = _rows(bank.waveform(index))
        if len(rows) < _ROWS:
            continue
        some.append(index)
        starts.append(n_rows)
        parts_.append(rows)
        n_rows += len(rows)
        if n_rows >= _BLOCK_ROWS:
            yield some, starts, np.concatenate(parts_)
            some, starts, parts_, n_rows = [], [], [], 0
    if some:
        yield some, starts, np.concatenate(parts_)


def _correlations(rows: FloatArray, templates: FloatArray) -> FloatArray:
    """Correlation of each second that begins at a row with each template, [n, n_templates]."""
    n = len(rows) - _ROWS + 1
    windows = np.lib.stride_tricks.sliding_window_view(rows, _ROWS, axis=0).transpose(0, 2, 1)
    # The templates have no mean, so that the windows' own mean drops out of the products.
    products = windows.reshape(n, -1) @ templates.reshape(len(templates), -1).T
    sums = _sliding_sum(rows.astype(np.float64))
    squares = _sliding_sum(np.square(rows, dtype=np.float64))
    norms = np.sqrt(np.maximum(squares - np.square(sums) / _ROWS, 0).sum(axis=1))
    norms[norms < _LEAST_NORM] = np.inf
    return products / norms[:, np.newaxis].astype(np.float32)


def _sliding_sum(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    total = np.cumsum(np.pad(values, ((1, 0), (0, 0))), axis=0)
    return total[_ROWS:] - total[:-_ROWS]


def _in_waveform(bank: Bank, kept: int, at: int, other: int, there: int) -> float:
    """The largest correlation of a second of one waveform with any of a place in another."""
    n = _ROWS * _ROW_SAMPLES
    template = bank.waveform(kept)[at : at + n]
    slack = 2 * _ROW_SAMPLES
    place = np.pad(bank.waveform(other), slack)[there : there + n + 2 * slack]
    size = 1 << (len(place) + n).bit_length()
    spectrum = np.fft.rfft(place, size) * np.conj(np.fft.rfft(template, size))
    products = np.fft.irfft(spectrum, size)[: len(place) - n + 1]
    energies = np.cumsum(np.pad(np.square(place, dtype=np.float64), (1, 0)))
    norms = np.sqrt(energies[n:] - energies[:-n]) * np.linalg.norm(template)
    return float(np.max(np.abs(products) / np.maximum(norms, 1e-9)))


def main() -> None:
    """Find them and write them down."""
    parser = argparse.ArgumentParser(
        prog="python -m recipes.mini.duplicates", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--sounds", type=Path, required=True, metavar="DIR")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="of bank.npz")
    options = parser.parse_args()
    sounds = read_index(options.sounds)
    bank = load_bank(sounds, options.work / "bank.npz")
    part_of = parts(sounds)
    kept_out = [i for i, part in enumerate(part_of) if part == "test"]
    learnt = [i for i, part in enumerate(part_of) if part != "test"]
    found = find_duplicates(bank, kept_out, learnt)
    write(found, sounds, options.sounds, DUPLICATES)


def write(found: Sequence[Duplicate], sounds: Sequence[Sound], root: Path, path: Path) -> None:
    """As a table of paths, and print it."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer: Any = csv.writer(file, lineterminator="\n")
        writer.writerow(("kept_out", "learnt", "in_log_mel", "in_waveform"))
        for d in found:
            names = (sounds[i].path.relative_to(root).as_posix() for i in (d.kept_out, d.learnt))
            row = (*names, f"{d.in_log_mel:.2f}", f"{d.in_waveform:.2f}")
            writer.writerow(row)
            print("  ".join(row), flush=True)


if __name__ == "__main__":
    main()
