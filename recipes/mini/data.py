"""The data that mini is trained and validated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.frame_data.clip_store import ClipStore, load_clips
from classifier.frame_data.finding import find_frame_files
from recipes.mini.clip_index import (
    PAIRS,
    Bank,
    IndexedClip,
    Part,
    draw_weights,
    load_bank,
    parts,
    read_index,
)
from recipes.mini.pairs import cut_pairs
from recipes.mini.teacher import Teacher
from recipes.mini.train import Moments, Pairs
from recipes.mini.views import ViewMaker, label_patches
from vggish.mel_features import log_mel_patches
from vggish.postprocess import dequantize

# Each pair is also used a little earlier and later, because the exact position of the released
# frames is unknown.
_SHIFTS_SECONDS = (-0.06, 0.0, 0.06)
_N_MOMENT_FRAMES = 100_000


@dataclass(frozen=True, eq=False)
class RecipeData:
    """Clips, their parts and waveforms, and AudioSet's released frames (bal_train)."""

    clips: list[IndexedClip]
    part_of: list[Part]
    bank: Bank
    released: ClipStore
    teacher: Path

    def indices(self, part: Part, source: str = "") -> npt.NDArray[np.int64]:
        """Return the indices of the clips in a part, and from one source if it is named."""
        indices = [
            index
            for index, (clip, of) in enumerate(zip(self.clips, self.part_of, strict=True))
            if of == part and source in ("", clip.source)
        ]
        return np.array(indices, np.int64)

    def view_maker(self, seed: int) -> ViewMaker:
        """Return the maker of views of the training clips."""
        drawn = self.indices("train")
        weights = draw_weights([self.clips[index] for index in drawn])
        return ViewMaker(self.bank, drawn, weights, self.teacher, seed)

    def pairs(self, part: Part) -> Pairs:
        """Return each second of the AudioSet clips with its released embedding."""
        place_of = {clip_id: place for place, clip_id in enumerate(self.released.ids)}
        shifts = _SHIFTS_SECONDS if part == "train" else (0.0,)
        windows, embeddings = [], []
        for index in self.indices(part, PAIRS):
            clip_id = self.clips[index].clip_id
            if clip_id not in place_of:
                continue
            frames = self.released[place_of[clip_id]].frames
            for window, embedding in cut_pairs(self.bank.waveform(index), frames, shifts):
                windows.append(window)
                embeddings.append(embedding)
        labelled = label_patches(windows, Teacher(self.teacher))
        return Pairs(labelled.patches, np.stack(embeddings), labelled.logits)

    def split_released(self, share: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Split the released clips into training and held-out ones, without the test pairs."""
        store = self.released
        test_ids = {self.clips[index].clip_id for index in self.indices("test", PAIRS)}
        order = np.random.default_rng(0).permutation(len(store))
        usable = np.array([i for i in order if store.ids[i] not in test_ids], np.int64)
        n_held_out = round(share * len(usable))
        return usable[n_held_out:], usable[:n_held_out]

    def moments(self, seed: int) -> Moments:
        """Return the mean and covariance of the released frames."""
        rng = np.random.default_rng(seed)
        frames = self.released.frames
        drawn = np.sort(rng.choice(len(frames), min(len(frames), _N_MOMENT_FRAMES), replace=False))
        return Moments.of(dequantize(frames[drawn]))

    def clip_patches(self, part: Part, source: str = "") -> list[npt.NDArray[np.float32]]:
        """Return the log-mel patches float32 [n, 96, 64] of each clip, as `audiotag embed` does."""
        return [
            log_mel_patches(self.bank.waveform(index)).astype(np.float32)
            for index in self.indices(part, source)
        ]


def load_data(sounds: Path, frames: Path, teacher: Path, work: Path) -> RecipeData:
    """Load the data of the recipe.

    Args:
        sounds: directory with `index.csv` and its clips.
        frames: AudioSet's released features of the balanced training set, as TFRecords.
        teacher: YAMNet as a TFLite file.
        work: directory for the decoded waveforms.
    """
    work.mkdir(parents=True, exist_ok=True)
    clips = read_index(sounds)
    bank = load_bank(clips, work / "bank.npz")
    released = load_clips(find_frame_files([str(frames)]))
    return RecipeData(clips, parts(clips), bank, released, teacher)
