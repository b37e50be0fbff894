"""Views of the sounds: 0.975 s of sound, changed and mixed, and what the teacher says of each.

A view is drawn from a seed of its own, so that a file of views does not depend on those before it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recipes.mini.sounds import Bank
from recipes.mini.teacher import Teacher
from vggish.mel_features import log_mel_patches, n_patches
from vggish.params import PATCH_FRAMES, PATCH_SAMPLES, SAMPLE_RATE_HZ, STFT_HOP_SAMPLES

Waveform = npt.NDArray[np.float32]

_HOP_SAMPLES = PATCH_FRAMES * STFT_HOP_SAMPLES
_PATCHES_A_FILE = 4096
# How often a view is changed in each way, and how far.
_MIXED, _SIGNAL_TO_NOISE_DB = 0.5, (-6.0, 15.0)
_SPED, _SPEED = 0.3, (0.85, 1.18)
_EQUALISED, _EQUALISATION_DB, _N_EQUALISER_POINTS = 0.5, 9.0, 7
_NOISY, _NOISE_DB = 0.1, (-60.0, -35.0)
_GAIN_DB = (-24.0, 9.0)
_EQUALISER_HZ = np.geomspace(60.0, 8000.0, _N_EQUALISER_POINTS)


@dataclass(frozen=True, eq=False)
class Views:
    """Patches with what the teacher says of them, view after view.

    Attributes:
        lengths: int64 [n_views], patches of each.
        patches: float16 [n, 96, 64], log-mel.
        logits: float16 [n, 521].
        features: float16 [n, 1024].
    """

    lengths: npt.NDArray[np.int64]
    patches: npt.NDArray[np.float16]
    logits: npt.NDArray[np.float16]
    features: npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class Studio:
    """What makes views.

    Attributes:
        bank: the waveforms.
        drawn: indices of the sounds that may be drawn.
        weights: how often each of them is, [len(drawn)].
        teacher: path of YAMNet.
        seed: of everything random.
    """

    bank: Bank
    drawn: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    teacher: Path
    seed: int

    def view(self, rng: np.random.Generator, n_patches: int = 1) -> Waveform:
        """A waveform of so many patches, or of fewer where the sound is shorter."""
        window = self._window(rng, n_patches)
        if rng.random() < _MIXED:
            other = _as_long_as(window, self._window(rng, n_patches), rng)
            level = _rms(window) / max(_rms(other), 1e-5)
            window = window + other * level * _db(-rng.uniform(*_SIGNAL_TO_NOISE_DB))
        if rng.random() < _EQUALISED:
            window = _equalised(window, rng)
        if rng.random() < _NOISY:
            noise = rng.standard_normal(len(window)).astype(np.float32)
            window = window + noise * _db(rng.uniform(*_NOISE_DB))
        window = window * _db(rng.uniform(*_GAIN_DB))
        return np.clip(window, -1, 1).astype(np.float32)

    def _window(self, rng: np.random.Generator, n_patches: int) -> Waveform:
        """A part of a sound, with silence where the sound does not fill its last patch."""
        waveform = self.bank.waveform(int(rng.choice(self.drawn, p=self.weights)))
        speed = rng.uniform(*_SPEED) if rng.random() < _SPED else 1.0
        n_patches = max(1, min(n_patches, round(len(waveform) / speed / _HOP_SAMPLES)))
        n_samples = (n_patches - 1) * _HOP_SAMPLES + PATCH_SAMPLES
        n_needed = int(np.ceil(n_samples * speed))
        # Of two places the louder one: many clips are mostly silence.
        starts = rng.integers(0, max(1, len(waveform) - n_needed + 1), 2)
        parts = [waveform[start : start + n_needed] for start in starts]
        part = max(parts, key=_rms)
        part = np.pad(part, (0, max(0, n_needed - len(part))))
        if speed == 1.0:
            return part[:n_samples]
        places = np.arange(n_samples) * speed
        return np.interp(places, np.arange(n_needed), part).astype(np.float32)


def make_views(
    studio: Studio, n_patches: int, n_patches_a_view: int, directory: Path, n_processes: int
) -> list[Path]:
    """Write about `n_patches` patches of views, each of at most `n_patches_a_view`, into files.

    The files are `views-0000.npz`, ..., of the same number of views each. Those that are there
    are kept.
    """
    paths = [directory / f"views-{n:04}.npz" for n in range(-(-n_patches // _PATCHES_A_FILE))]
    missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("fork")
        with context.Pool(n_processes, _begin, (studio, n_patches_a_view)) as pool:
            for done, _ in enumerate(pool.imap(_make_file, missing), start=1):
                print(f"views: {done} of {len(missing)} files in {directory.name}", flush=True)
    return paths


def load_views(paths: Sequence[Path]) -> Views:
    """All views of some files, in memory."""
    parts: dict[str, list[npt.NDArray[Any]]] = {field.name: [] for field in fields(Views)}
    for path in paths:
        with np.load(path) as file:
            for name, arrays in parts.items():
                arrays.append(file[name])
    return Views(**{name: np.concatenate(parts.pop(name)) for name in list(parts)})


def look(waveforms: Iterable[Waveform], teacher: Teacher) -> Views:
    """Patches of waveforms [(n - 1) * 15360 + 15600], and what the teacher says of each."""
    lengths, patches, logits, features = [], [], [], []
    for waveform in waveforms:
        of_view = log_mel_patches(waveform, tail="drop").astype(np.float16)
        lengths.append(len(of_view))
        patches.append(of_view)
        for number in range(len(of_view)):
            start = number * _HOP_SAMPLES
            said = teacher(waveform[start : start + PATCH_SAMPLES])
            logits.append(said[0].astype(np.float16))
            features.append(said[1].astype(np.float16))
    return Views(
        np.array(lengths, np.int64), np.concatenate(patches), np.stack(logits), np.stack(features)
    )


def whole_patches(waveform: Waveform) -> Waveform:
    """A sound up to the end of its last patch, with the silence that completes it."""
    n_samples = (n_patches(len(waveform)) - 1) * _HOP_SAMPLES + PATCH_SAMPLES
    return np.pad(waveform, (0, max(0, n_samples - len(waveform))))[:n_samples]


_studio: Studio
_n_patches_a_view: int
_teacher: Teacher


def _begin(studio: Studio, n_patches_a_view: int) -> None:
    """Once in each process."""
    global _studio, _n_patches_a_view, _teacher
    _studio, _n_patches_a_view = studio, n_patches_a_view
    _teacher = Teacher(studio.teacher)


def _make_file(numbered: tuple[int, Path]) -> None:
    number, path = numbered
    rng = np.random.default_rng((_studio.seed, number))
    n_views = _PATCHES_A_FILE // _n_patches_a_view
    views = look((_studio.view(rng, _n_patches_a_view) for _ in range(n_views)), _teacher)
    scratch = path.with_suffix(".part.npz")
    np.savez(scratch, **vars(views))
    scratch.replace(path)


def _as_long_as(window: Waveform, other: Waveform, rng: np.random.Generator) -> Waveform:
    """Another sound, cut, or put somewhere into silence."""
    missing = len(window) - len(other)
    if missing <= 0:
        return other[: len(window)]
    before = int(rng.integers(0, missing + 1))
    return np.pad(other, (before, missing - before))


def _rms(waveform: Waveform) -> float:
    return float(np.sqrt(np.mean(np.square(waveform)))) if len(waveform) else 0.0


def _db(decibels: float) -> np.float32:
    return np.float32(10 ** (decibels / 20))


def _equalised(window: Waveform, rng: np.random.Generator) -> Waveform:
    points = rng.uniform(-_EQUALISATION_DB, _EQUALISATION_DB, _N_EQUALISER_POINTS)
    frequencies_hz = np.fft.rfftfreq(len(window), 1 / SAMPLE_RATE_HZ)
    curve = np.interp(np.log(frequencies_hz + 1), np.log(_EQUALISER_HZ + 1), points)
    return np.fft.irfft(np.fft.rfft(window) * 10 ** (curve / 20), len(window)).astype(np.float32)
