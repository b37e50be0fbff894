"""Store clips of frames in a few large arrays."""

from __future__ import annotations

import array
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from typing import IO

import numpy as np
import numpy.typing as npt

from classifier.frame_data.clips import Clip, ReadReport
from classifier.frame_data.records import Paths, read_clips
from classifier.names import SAMPLINGS
from vggish.errors import FrameFileError, OptionError
from vggish.frames.clip import Frames
from vggish.params import EMBEDDING_SIZE

MEMORY_LIMIT_BYTES = 4 << 30


class ClipStore:
    """Clips in concatenated arrays, which training and evaluation index.

    Attributes:
        frames: uint8 [total, 128], the frames of all clips.
        offsets: int64 [n + 1]; the frames of clip i are `frames[offsets[i] : offsets[i + 1]]`.
        lengths: int64 [n], number of frames of each clip.
        longest: number of frames of the longest clip, 0 if there are no clips.
        ids: clip ids, n.
        embedders: names of the clips' embedders, n.
        label_values: int32, the labels of all clips.
        label_offsets: int64 [n + 1], as `offsets`.
        is_labelled: bool [n], False for a clip whose labels are None.
    """

    def __init__(
        self,
        frames: Frames,
        lengths: npt.NDArray[np.int64],
        ids: Sequence[str],
        embedders: Sequence[str],
        labels: npt.NDArray[np.int32],
        n_labels: npt.NDArray[np.int64],
    ) -> None:
        self.frames, self.lengths, self.ids, self.embedders = frames, lengths, ids, embedders
        self.offsets = _offsets(lengths)
        self.longest = int(lengths.max(initial=0))
        self.label_values = labels
        self.is_labelled: npt.NDArray[np.bool_] = n_labels >= 0
        self.label_offsets = _offsets(n_labels.clip(0))

    @classmethod
    def from_clips(
        cls, clips: Iterable[Clip], *, memory_limit_bytes: int = MEMORY_LIMIT_BYTES
    ) -> ClipStore:
        """Store clips; frames beyond the memory limit go to a temporary file.

        Raises:
            FrameFileError: the temporary file cannot be written.
        """
        ids: list[str] = []
        embedders: list[str] = []
        lengths, n_labels, labels = array.array("q"), array.array("q"), array.array("i")
        with _FrameBuffer(memory_limit_bytes) as frames:
            for clip in clips:
                frames.append(clip.frames)
                ids.append(clip.clip_id)
                embedders.append(clip.embedder)
                lengths.append(len(clip.frames))
                n_labels.append(-1 if clip.labels is None else len(clip.labels))
                labels.extend(clip.labels or ())
            return cls(
                frames.array(),
                np.array(lengths, np.int64),
                ids,
                embedders,
                np.array(labels, np.int32),
                np.array(n_labels, np.int64),
            )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)}")
        index %= len(self)
        first, last = self.offsets[index : index + 2]
        first_label, last_label = self.label_offsets[index : index + 2]
        labels = tuple(self.label_values[first_label:last_label].tolist())
        clip_id = self.ids[index]
        return Clip(
            clip_id,
            self.frames[first:last],
            labels if self.is_labelled[index] else None,
            self.embedders[index],
            f"the clip {clip_id!r}",
        )

    def __iter__(self) -> Iterator[Clip]:
        return map(self.__getitem__, range(len(self)))

    def gather(
        self,
        indices: npt.ArrayLike,
        n_frames: int | None = None,
        sampling: str = "all",
        rng: np.random.Generator | None = None,
    ) -> tuple[Frames, npt.NDArray[np.int32]]:
        """Gather the frames of some clips into a batch.

        Args:
            indices: int [B], indices of the clips.
            n_frames: T, by default the length of the longest clip in the store.
            sampling: "all" takes the first T frames, "run" takes T consecutive frames from a
                random start, "random" draws T frames with replacement.
            rng: random generator, required by "run" and "random".

        Returns:
            The frames, uint8 [B, T, 128], padded with zeros, and the number of frames of each
            clip that are not padding, int32 [B].

        Raises:
            OptionError: the sampling is unknown, or needs `rng`.

        Source: `SampleRandomFrames` and `SampleRandomSequence` of the YouTube-8M starter code.
        """
        if sampling not in SAMPLINGS:
            raise OptionError(
                f"sampling must be one of {', '.join(SAMPLINGS)}. Received: {sampling!r}"
            )
        chosen = np.asarray(indices, np.int64)
        width = self.longest if n_frames is None else n_frames
        lengths = self.lengths[chosen]
        starts = self.offsets[:-1][chosen][:, None]
        steps = np.arange(width)
        kept = np.minimum(lengths, width)
        if sampling == "all":
            rows = starts + steps
        elif rng is None:
            raise OptionError(f"the sampling {sampling!r} needs a random generator: pass rng")
        elif sampling == "random":
            rows = starts + (rng.random((len(chosen), width)) * lengths[:, None]).astype(np.int64)
            kept = np.where(lengths > 0, width, 0)
        else:
            n_starts = lengths - kept + 1
            rows = starts + (rng.random(len(chosen)) * n_starts).astype(np.int64)[:, None] + steps
        if len(self.frames) == 0:
            return np.zeros((*rows.shape, EMBEDDING_SIZE), np.uint8), kept.astype(np.int32)
        batch = self.frames.take(rows, axis=0, mode="clip")
        batch[steps >= kept[:, None]] = 0
        return batch, kept.astype(np.int32)

    def label_matrix(self, indices: npt.ArrayLike, n_classes: int) -> npt.NDArray[np.bool_]:
        """Labels of some clips as a matrix, int [B] -> bool [B, n_classes].

        Raises:
            FrameFileError: a label is `n_classes` or more; the message names the clip.
        """
        chosen = np.asarray(indices, np.int64)
        counts = np.diff(self.label_offsets)[chosen]
        ends = np.cumsum(counts)
        rows = np.repeat(np.arange(len(chosen)), counts)
        # Positions of the labels within those of their clip.
        within = np.arange(len(rows)) - np.repeat(ends - counts, counts)
        columns = self.label_values[self.label_offsets[:-1][chosen][rows] + within]
        beyond = columns >= n_classes
        if beyond.any():
            first = int(np.argmax(beyond))
            raise FrameFileError(
                f"the clip {self.ids[chosen[rows[first]]]!r} has the label {columns[first]}, but "
                f"there are {n_classes} classes (0 to {n_classes - 1}); name the classes of this "
                "data set with --labels"
            )
        matrix = np.zeros((len(chosen), n_classes), np.bool_)
        matrix[rows, columns] = True
        return matrix


def load_clips(
    paths: Paths,
    *,
    max_bad: int = 0,
    report: ReadReport | None = None,
    memory_limit_bytes: int = MEMORY_LIMIT_BYTES,
) -> ClipStore:
    """Read all clips of files into a `ClipStore`; see `read_clips` for arguments and errors."""
    report = ReadReport() if report is None else report
    clips = read_clips(paths, max_bad=max_bad, report=report)
    store = ClipStore.from_clips(clips, memory_limit_bytes=memory_limit_bytes)
    report.n_repeated_ids += len(store) - len(set(store.ids))
    return store


class _FrameBuffer:
    """Frames in memory, or in a temporary file if they exceed a limit."""

    def __init__(self, memory_limit_bytes: int) -> None:
        self._limit = memory_limit_bytes
        self._memory = bytearray()
        self._file: IO[bytes] | None = None

    def __enter__(self) -> _FrameBuffer:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, frames: Frames) -> None:
        data = np.ascontiguousarray(frames, np.uint8).data
        if self._file is None and len(self._memory) + data.nbytes <= self._limit:
            self._memory += data
            return
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
                self._file.write(self._memory)
                self._memory = bytearray()
            self._file.write(data)
        except OSError as error:
            raise FrameFileError(
                f"cannot write frames to a temporary file in {tempfile.gettempdir()}: "
                f"{error.strerror or error}. Set TMPDIR to a directory with more free space"
            ) from error

    def array(self) -> Frames:
        if self._file is None:
            return np.frombuffer(self._memory, np.uint8).reshape(-1, EMBEDDING_SIZE)
        self._file.flush()
        # The mapping outlives the file object.
        mapped = np.memmap(self._file, np.uint8, "r")
        return np.asarray(mapped).reshape(-1, EMBEDDING_SIZE)


def _offsets(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    offsets: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return offsets
