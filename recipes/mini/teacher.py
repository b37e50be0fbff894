"""The teacher, YAMNet: 0.975 s of audio -> logits and features.

Source: Plakal and Ellis, `research/audioset/yamnet` of tensorflow/models. Any conversion to TFLite
with a window of 15,600 samples as input works.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from classifier.labels import audioset_labels
from vggish.params import PATCH_SAMPLES

N_TEACHER_CLASSES = 521
N_TEACHER_FEATURES = 1024
# YAMNet has AudioSet's classes in the same order, except for these six.
_NOT_IN_YAMNET = (
    "Male speech, man speaking",
    "Female speech, woman speaking",
    "Battle cry",
    "Female singing",
    "Male singing",
    "Funny music",
)


class Teacher:
    """YAMNet on LiteRT. Not thread-safe.

    Args:
        path: the TFLite file.
        n_threads: number of threads within one call.
    """

    def __init__(self, path: Path, n_threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        # The logits and the features are intermediate tensors.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*experimental_preserve_all_tensors")
            self._net: Any = Interpreter(
                str(path), num_threads=n_threads, experimental_preserve_all_tensors=True
            )
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]
        tensors = {
            tuple(t["shape"]): t["index"]
            for t in self._net.get_tensor_details()
            if t["name"].endswith(("dense/BiasAdd", "global_average_pooling2d/Mean"))
        }
        self._logits = tensors[1, N_TEACHER_CLASSES]
        self._features = tensors[1, N_TEACHER_FEATURES]

    def __call__(
        self, window: npt.NDArray[np.float32]
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return the logits [521] and features [1024] of a waveform [15600]."""
        assert window.shape == (PATCH_SAMPLES,)
        self._net.set_tensor(self._input["index"], window.reshape(self._input["shape"]))
        self._net.invoke()
        logits, features = (self._net.get_tensor(i)[0] for i in (self._logits, self._features))
        return logits.copy(), features.copy()


def teacher_classes() -> npt.NDArray[np.int64]:
    """Return the AudioSet index of each of the teacher's classes, [521]."""
    names = audioset_labels().names
    return np.flatnonzero([name not in _NOT_IN_YAMNET for name in names])
