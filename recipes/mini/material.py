"""What mini is trained on and tried on, from the directories that the command line names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from classifier.frame_data.clip_store import ClipStore, load_clips
from classifier.frame_data.finding import find_frame_files
from recipes.mini.pairs import cut_pairs
from recipes.mini.sounds import PAIRS, Bank, Part, Sound, draw_weights, load_bank, parts, read_index
from recipes.mini.teacher import Teacher
from recipes.mini.train import Moments, Pairs
from recipes.mini.views import Studio, look
from vggish.mel_features import log_mel_patches
from vggish.postprocess import dequantize

# A pair is also learnt a little earlier and later: where the released frames were cut is not
# known to the millisecond.
_SHIFTS_SECONDS = (-0.06, 0.0, 0.06)
_N_FOR_MOMENTS = 100_000


@dataclass(frozen=True, eq=False)
class Material:
    """Sounds, their parts and waveforms, and AudioSet's released frames (bal_train)."""

    sounds: list[Sound]
    part_of: list[Part]
    bank: Bank
    released: ClipStore
    teacher: Path

    def indices(self, part: Part, source: str = "") -> npt.NDArray[np.int64]:
        """The sounds of a part, and of a source if one is named."""
        found = [
            index
            for index, (sound, of) in enumerate(zip(self.sounds, self.part_of, strict=True))
            if of == part and source in ("", sound.source)
        ]
        return np.array(found, np.int64)

    def studio(self, seed: int) -> Studio:
        """What makes views of the sounds to learn from."""
        drawn = self.indices("train")
        weights = draw_weights([self.sounds[index] for index in drawn])
        return Studio(self.bank, drawn, weights, self.teacher, seed)

    def pairs(self, part: Part) -> Pairs:
        """Each second of the pairs' sound with its released embedding."""
        place_of = {clip_id: place for place, clip_id in enumerate(self.released.ids)}
        shifts = _SHIFTS_SECONDS if part == "train" else (0.0,)
        windows, embeddings = [], []
        for index in self.indices(part, PAIRS):
            clip_id = self.sounds[index].clip_id
            if clip_id not in place_of:
                continue
            frames = self.released[place_of[clip_id]].frames
            for window, embedding in cut_pairs(self.bank.waveform(index), frames, shifts):
                windows.append(window)
                embeddings.append(embedding)
        seen = look(windows, Teacher(self.teacher))
        return Pairs(seen.patches, np.stack(embeddings), seen.logits)

    def split_released(self, share: float) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Released clips to learn from and to hold out; pairs that measure are in neither."""
        store = self.released
        measured = {self.sounds[index].clip_id for index in self.indices("test", PAIRS)}
        order = np.random.default_rng(0).permutation(len(store))
        usable = np.array([i for i in order if store.ids[i] not in measured], np.int64)
        n_held = round(share * len(usable))
        return usable[n_held:], usable[:n_held]

    def moments(self, seed: int) -> Moments:
        """Of the released frames."""
        rng = np.random.default_rng(seed)
        frames = self.released.frames
        some = np.sort(rng.choice(len(frames), min(len(frames), _N_FOR_MOMENTS), replace=False))
        return Moments.of(dequantize(frames[some]))

    def whole_clips(self, part: Part, source: str = "") -> list[npt.NDArray[np.float32]]:
        """Log-mel patches float32 [n, 96, 64] of each sound as `audiotag embed` cuts them."""
        return [
            log_mel_patches(self.bank.waveform(index)).astype(np.float32)
            for index in self.indices(part, source)
        ]


def gather(sounds: Path, frames: Path, teacher: Path, work: Path) -> Material:
    """Read what there is.

    Args:
        sounds: a directory with `index.csv` and the sounds it names.
        frames: AudioSet's released features of the balanced training set, TFRecords.
        teacher: YAMNet, TFLite.
        work: for the decoded waveforms.
    """
    work.mkdir(parents=True, exist_ok=True)
    listed = read_index(sounds)
    bank = load_bank(listed, work / "bank.npz")
    released = load_clips(find_frame_files([str(frames)]))
    return Material(listed, parts(listed), bank, released, teacher)
