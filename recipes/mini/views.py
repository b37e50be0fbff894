"""Views of the clips: augmented and mixed excerpts with the teacher's outputs.

Each file of views has its own seed, so it does not depend on the files before it.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from recipes.mini.clip_index import Bank
from recipes.mini.teacher import Teacher
from vggish.mel_features import log_mel_patches, n_patches
from vggish.params import PATCH_FRAMES, PATCH_SAMPLES, SAMPLE_RATE_HZ, STFT_HOP_SAMPLES

Waveform = npt.NDArray[np.float32]

_HOP_SAMPLES = PATCH_FRAMES * STFT_HOP_SAMPLES
_PATCHES_PER_FILE = 4096
# Probability and range of each augmentation.
_MIX_PROBABILITY, _SIGNAL_TO_NOISE_DB = 0.5, (-6.0, 15.0)
_SPEED_PROBABILITY, _SPEED = 0.3, (0.85, 1.18)
_EQUALISE_PROBABILITY, _EQUALISATION_DB, _N_EQUALISER_POINTS = 0.5, 9.0, 7
_NOISE_PROBABILITY, _NOISE_DB = 0.1, (-60.0, -35.0)
_GAIN_DB = (-24.0, 9.0)
_EQUALISER_HZ = np.geomspace(60.0, 8000.0, _N_EQUALISER_POINTS)


@dataclass(frozen=True, eq=False)
class Views:
    """Patches with the teacher's outputs, concatenated view by view.

    Attributes:
        lengths: int64 [n_views], number of patches in each view.
        patches: float16 [n, 96, 64], log-mel.
        logits: float16 [n, 521], logits of the teacher.
        features: float16 [n, 1024], features of the teacher.
    """

    lengths: npt.NDArray[np.int64]
    patches: npt.NDArray[np.float16]
    logits: npt.NDArray[np.float16]
    features: npt.NDArray[np.float16]


@dataclass(frozen=True, eq=False)
class ViewMaker:
    """Makes random views of clips.

    Attributes:
        bank: the waveforms.
        drawn: indices of the clips to draw from.
        weights: [len(drawn)], probability of drawing each clip.
        teacher: path of YAMNet.
        seed: seed of all random choices.
    """

    bank: Bank
    drawn: npt.NDArray[np.int64]
    weights: npt.NDArray[np.float64]
    teacher: Path
    seed: int

    def view(self, rng: np.random.Generator, n_patches: int = 1) -> Waveform:
        """Draw a waveform of `n_patches` patches, or fewer if the clip is shorter."""
        window = self._window(rng, n_patches)
        if rng.random() < _MIX_PROBABILITY:
            other = _as_long_as(window, self._window(rng, n_patches), rng)
            level = _rms(window) / max(_rms(other), 1e-5)
            window = window + other * level * _db(-rng.uniform(*_SIGNAL_TO_NOISE_DB))
        if rng.random() < _EQUALISE_PROBABILITY:
            window = _equalised(window, rng)
        if rng.random() < _NOISE_PROBABILITY:
            noise = rng.standard_normal(len(window)).astype(np.float32)
            window = window + noise * _db(rng.uniform(*_NOISE_DB))
        window = window * _db(rng.uniform(*_GAIN_DB))
        return np.clip(window, -1, 1).astype(np.float32)

    def _window(self, rng: np.random.Generator, n_patches: int) -> Waveform:
        """Draw an excerpt of a clip, padded with silence to whole patches."""
        waveform = self.bank.waveform(int(rng.choice(self.drawn, p=self.weights)))
        speed = rng.uniform(*_SPEED) if rng.random() < _SPEED_PROBABILITY else 1.0
        n_patches = max(1, min(n_patches, round(len(waveform) / speed / _HOP_SAMPLES)))
        n_samples = (n_patches - 1) * _HOP_SAMPLES + PATCH_SAMPLES
        n_needed = int(np.ceil(n_samples * speed))
        # Take the louder of two excerpts, because many clips are mostly silent.
        starts = rng.integers(0, max(1, len(waveform) - n_needed + 1), 2)
        excerpts = [waveform[start : start + n_needed] for start in starts]
        excerpt = max(excerpts, key=_rms)
        excerpt = np.pad(excerpt, (0, max(0, n_needed - len(excerpt))))
        if speed == 1.0:
            return excerpt[:n_samples]
        positions = np.arange(n_samples) * speed
        return np.interp(positions, np.arange(n_needed), excerpt).astype(np.float32)


def make_views(
    view_maker: ViewMaker, n_patches: int, patches_per_view: int, directory: Path, n_processes: int
) -> list[Path]:
    """Write files of views with about `n_patches` patches in total.

    The files `views-0000.npz`, ... contain the same number of views each, with at most
    `patches_per_view` patches. Existing files are kept.
    """
    paths = [directory / f"views-{n:04}.npz" for n in range(-(-n_patches // _PATCHES_PER_FILE))]
    missing = [(number, path) for number, path in enumerate(paths) if not path.exists()]
    if missing:
        directory.mkdir(parents=True, exist_ok=True)
        context = multiprocessing.get_context("fork")
        with context.Pool(n_processes, _begin, (view_maker, patches_per_view)) as pool:
            for done, _ in enumerate(pool.imap(_make_file, missing), start=1):
                print(f"views: wrote {done} of {len(missing)} files in {directory}", flush=True)
    return paths


def load_views(paths: Sequence[Path]) -> Views:
    """Load all views of several files into memory."""
    columns: dict[str, list[npt.NDArray[Any]]] = {field.name: [] for field in fields(Views)}
    for path in paths:
        with np.load(path) as file:
            for name, arrays in columns.items():
                arrays.append(file[name])
    return Views(**{name: np.concatenate(columns.pop(name)) for name in list(columns)})


def label_patches(waveforms: Iterable[Waveform], teacher: Teacher) -> Views:
    """Cut waveforms [(n - 1) * 15360 + 15600] into patches, and run the teacher on each."""
    lengths, patches, logits, features = [], [], [], []
    for waveform in waveforms:
        view_patches = log_mel_patches(waveform, tail="drop").astype(np.float16)
        lengths.append(len(view_patches))
        patches.append(view_patches)
        for number in range(len(view_patches)):
            start = number * _HOP_SAMPLES
            outputs = teacher(waveform[start : start + PATCH_SAMPLES])
            logits.append(outputs[0].astype(np.float16))
            features.append(outputs[1].astype(np.float16))
    return Views(
        np.array(lengths, np.int64), np.concatenate(patches), np.stack(logits), np.stack(features)
    )


def pad_to_whole_patches(waveform: Waveform) -> Waveform:
    """Cut or pad a waveform with silence to the end of its last patch."""
    n_samples = (n_patches(len(waveform)) - 1) * _HOP_SAMPLES + PATCH_SAMPLES
    return np.pad(waveform, (0, max(0, n_samples - len(waveform))))[:n_samples]


_view_maker: ViewMaker
_patches_per_view: int
_teacher: Teacher


def _begin(view_maker: ViewMaker, patches_per_view: int) -> None:
    """Initialise a worker process."""
    global _view_maker, _patches_per_view, _teacher
    _view_maker, _patches_per_view = view_maker, patches_per_view
    _teacher = Teacher(view_maker.teacher)


def _make_file(numbered: tuple[int, Path]) -> None:
    number, path = numbered
    rng = np.random.default_rng((_view_maker.seed, number))
    n_views = _PATCHES_PER_FILE // _patches_per_view
    waveforms = (_view_maker.view(rng, _patches_per_view) for _ in range(n_views))
    views = label_patches(waveforms, _teacher)
    scratch = path.with_suffix(".part.npz")
    np.savez(scratch, **vars(views))
    scratch.replace(path)


def _as_long_as(window: Waveform, other: Waveform, rng: np.random.Generator) -> Waveform:
    """Cut another excerpt to the same length, or pad it with silence at a random position."""
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
