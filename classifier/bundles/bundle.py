"""Bundles, loaded to score clips; see `classifier.bundles.files` for their contents."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from classifier.bundles.calibration import Calibration
from classifier.bundles.files import HOW_TO_MAKE, HOW_TO_REPAIR, Weights, quoted, read_bundle
from classifier.labels import Labels
from classifier.names import CARD_FILE, HEAD_FILE, RELEASED_EMBEDDER
from vggish.errors import BundleError, OptionError, RunError, first_line
from vggish.frames.clip import Frames
from vggish.network.runtime import import_onnxruntime
from vggish.params import EMBEDDING_SIZE

if TYPE_CHECKING:
    from classifier.frame_data.clips import Clip
    from classifier.tags.types import Scores

# Frames in a head at once, padding included: with 8192 hidden units per frame, 128 MiB.
BATCH_FRAMES = 1 << 12
# The calling thread alone scores up to this many frames. More threads are no faster, and on busy
# cores they wait for one another: 2 ms become 8.
ONE_THREAD_FRAMES = 1 << 9
# Frames of AudioSet's clips: 10 s, about a frame per second.
DEFAULT_WINDOW = 10
WEIGHTS_FILE = "weights.npz"
_INPUTS = {"frames": "tensor(uint8)", "n_frames": "tensor(int32)"}


class Scorer(Protocol):
    """Scores clips of frames: a bundle, or a head in training."""

    def scores(self, frames: Frames, n_frames: npt.ArrayLike, embedder: str = "") -> Scores:
        """Score clips: frames uint8 [B, T, 128], n_frames int [B] -> float32 [B, C]."""


class Bundle:
    """A loaded head that scores clips of frames; thread-safe. See `load`.

    It is pickled as its directory, so that other processes load it from there.

    Attributes:
        directory: of the bundle.
        card: contents of `bundle.json`.
        labels: the classes, in the order of the scores.
        sha256: of `head.onnx`.
        clip_frames: number of frames of the clips that it was trained on.
        has_frame_scores: whether the head also scores single frames.
    """

    def __init__(self, directory: Path, card: dict[str, Any], labels: Labels, model: bytes) -> None:
        self.directory, self.card, self.labels = directory, card, labels
        self._location = directory.absolute()
        self.sha256 = hashlib.sha256(model).hexdigest()
        self.clip_frames = _clip_frames(card, directory)
        self._calibrations = _calibrations(card, directory)
        self._model = model
        self._session = _session(model, directory, n_threads=1)
        self.has_frame_scores = len(self._session.get_outputs()) > 1
        # A graph may leave shapes open, so they are checked on one frame.
        self.clip_and_frame_scores(np.zeros((1, 1, EMBEDDING_SIZE), np.uint8), [1])

    @functools.cached_property
    def _wide_session(self) -> Any:
        """A session with a thread per core, for many frames."""
        return _session(self._model, self.directory, n_threads=0)

    def __reduce__(self) -> tuple[Callable[..., Bundle], tuple[Path, str]]:
        """Pickle as the directory, from which another process loads the bundle."""
        return _load_again, (self._location, self._identity)

    @property
    def _identity(self) -> str:
        """Checksum of the card and the head; the card has the checksum of the labels."""
        card = json.dumps(self.card, sort_keys=True)
        return hashlib.sha256((card + self.sha256).encode()).hexdigest()

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return str(self.card["name"])

    @property
    def provenance(self) -> dict[str, str]:
        """Description for outputs: name, head, and sha256 of `head.onnx`."""
        head = str(self.card["head"].get("name", ""))
        return {"name": self.name, "head": head, "sha256": self.sha256}

    def scores(self, frames: Frames, n_frames: npt.ArrayLike, embedder: str = "") -> Scores:
        """Score clips, calibrated if the bundle has a calibration for the embedder.

        Args:
            frames: uint8 [B, T, 128]; B and T may be 0. At most `BATCH_FRAMES` frames (or one
                clip) are in the head at once.
            n_frames: int [B], the number of real frames of each clip; later rows are ignored.
            embedder: name of the embedder of the frames; "" means that of AudioSet.

        Returns:
            float32 [B, C], from 0 to 1.

        Raises:
            OptionError: an array has another shape or dtype, or n_frames is out of range.
            BundleError: the head fails, or returns NaN or infinite scores.
        """
        return self._run(frames, n_frames, ["scores"], embedder)[0]

    def frame_scores(
        self, frames: Frames, n_frames: npt.ArrayLike, embedder: str = ""
    ) -> Scores | None:
        """Score each frame: float32 [B, T, C], 0 beyond n_frames; None if the head cannot.

        Arguments and errors are those of `scores`.
        """
        return self.clip_and_frame_scores(frames, n_frames, embedder)[1]

    def clip_and_frame_scores(
        self, frames: Frames, n_frames: npt.ArrayLike, embedder: str = ""
    ) -> tuple[Scores, Scores | None]:
        """Score clips and their frames in one pass; see `scores` and `frame_scores`."""
        if not self.has_frame_scores:
            return self.scores(frames, n_frames, embedder), None
        scores, frame_scores = self._run(frames, n_frames, ["scores", "frame_scores"], embedder)
        return scores, frame_scores

    def accepts(self, embedder: str) -> bool:
        """Whether the head accepts frames of an embedder; "" means that of AudioSet."""
        return (embedder or RELEASED_EMBEDDER) in self.card["embedders"]

    def check_embedder(
        self, embedder: str, force: bool = False, *, what: str = "these frames"
    ) -> None:
        """Check that the head accepts frames of an embedder.

        Raises:
            BundleError: it does not, and `force` is False; `what` begins the message.
        """
        if force or self.accepts(embedder):
            return
        raise BundleError(
            f"{what}: made by the embedder {embedder or RELEASED_EMBEDDER!r}, but the bundle "
            f"{self.name!r} is for {quoted(self.card['embedders'])}; its scores would be "
            "meaningless.\nEmbed the audio with that one, or override this check with --force"
        )

    def _run(
        self, frames: Frames, n_frames: npt.ArrayLike, outputs: list[str], embedder: str
    ) -> list[Scores]:
        lengths = _checked_lengths(frames, n_frames)
        n_clips, n_rows = frames.shape[:2]
        n_classes = len(self.labels)
        shapes = {"scores": (n_clips, n_classes), "frame_scores": (n_clips, n_rows, n_classes)}
        results: list[Scores] = [np.zeros(shapes[name], np.float32) for name in outputs]
        step = max(1, BATCH_FRAMES // max(1, n_rows))
        for start in range(0, n_clips, step):
            batch = slice(start, start + step)
            parts = self._run_batch(frames[batch], lengths[batch], outputs)
            for result, part in zip(results, parts, strict=True):
                if part.ndim == 3:
                    n_part = min(part.shape[1], n_rows)
                    real = np.arange(n_part) < lengths[batch, None]
                    result[batch, :n_part] = np.where(real[:, :, None], part[:, :n_part], 0)
                else:
                    result[batch] = part
        if not all(np.isfinite(result).all() for result in results):
            raise BundleError(
                f"the head of the bundle {self.directory} returned NaN or infinite scores: its "
                "training diverged, or its file is wrong. Use another bundle"
            )
        calibration = self._calibrations.get(embedder or RELEASED_EMBEDDER)
        return results if calibration is None else [calibration(result) for result in results]

    def _run_batch(
        self, frames: Frames, lengths: npt.NDArray[np.int32], outputs: list[str]
    ) -> list[Scores]:
        # Rows beyond all clips are left out, but a graph may not accept a time of 0.
        n_rows = max(1, int(lengths.max()))
        part = np.ascontiguousarray(frames[:, :n_rows])
        if part.shape[1] == 0:
            part = np.zeros((len(frames), 1, EMBEDDING_SIZE), np.uint8)
        try:
            is_large = part.shape[0] * part.shape[1] > ONE_THREAD_FRAMES
            session = self._wide_session if is_large else self._session
            results = session.run(outputs, {"frames": part, "n_frames": lengths})
        except Exception as error:  # ONNX Runtime's errors share no public base class
            raise BundleError(
                f"the head of the bundle {self.directory} failed on frames {list(part.shape)}: "
                f"{first_line(error)}"
            ) from error
        n_classes = len(self.labels)
        expected = {"scores": part.shape[:1], "frame_scores": part.shape[:2]}
        for name, result in zip(outputs, results, strict=True):
            if result.shape != (*expected[name], n_classes):
                raise BundleError(
                    f"the bundle {self.directory} has {n_classes} labels, but its head returns "
                    f"{name} of the shape {list(result.shape)} for frames {list(part.shape)}.\n"
                    f"{HOW_TO_REPAIR}"
                )
        return list(results)


def load(directory: str | Path) -> Bundle:
    """Load a bundle and verify the checksums of its files. Needs no TensorFlow.

    Args:
        directory: a bundle, or a training run that contains one; or the name of a bundle that
            comes with audiotag, such as `audioset-gru`.

    Raises:
        BundleError: there is none, it is damaged, or it needs a newer version of audiotag.
    """
    return Bundle(*read_bundle(Path(directory)))


# A pool pickles the same object with each task; a process loads it once.
@functools.lru_cache(maxsize=4)
def _load_again(directory: Path, identity: str) -> Bundle:
    bundle = load(directory)
    if bundle._identity != identity:
        raise BundleError(f"the bundle {directory} has changed since it was pickled; load it again")
    return bundle


def pad(clips: Sequence[Frames]) -> tuple[Frames, npt.NDArray[np.int32]]:
    """Pad clips, uint8 [n, 128] each, with zeros: uint8 [B, T, 128] and lengths int32 [B]."""
    lengths = np.array([len(frames) for frames in clips], np.int32)
    padded = np.zeros((len(clips), lengths.max(initial=0), EMBEDDING_SIZE), np.uint8)
    for row, frames in zip(padded, clips, strict=True):
        row[: len(frames)] = frames
    return padded, lengths


def score_batches(scorer: Scorer, clips: Iterable[Clip]) -> Iterator[tuple[list[Clip], Scores]]:
    """Score clips in batches and in order; yield clips with their scores float32 [B, C].

    A batch has at most `BATCH_FRAMES` frames, padding included, or one longer clip.
    """
    for batch in _batches(clips):
        frames, n_frames = pad([clip.frames for clip in batch])
        yield batch, scorer.scores(frames, n_frames, batch[0].embedder)


def _batches(clips: Iterable[Clip]) -> Iterator[list[Clip]]:
    batch: list[Clip] = []
    n_rows = 0
    for clip in clips:
        n_rows = max(n_rows, len(clip.frames), 1)
        is_full = (len(batch) + 1) * n_rows > BATCH_FRAMES
        if batch and (is_full or clip.embedder != batch[0].embedder):
            yield batch
            batch, n_rows = [], max(len(clip.frames), 1)
        batch.append(clip)
    if batch:
        yield batch


def _checked_lengths(frames: Frames, n_frames: npt.ArrayLike) -> npt.NDArray[np.int32]:
    if frames.dtype != np.uint8:
        raise OptionError(
            f"frames must be uint8, quantised. Received: {frames.dtype} (were they embedded with "
            "--values raw or pca?)"
        )
    if frames.ndim != 3 or frames.shape[2] != EMBEDDING_SIZE:
        raise OptionError(
            f"frames must have the shape [batch, time, {EMBEDDING_SIZE}]. "
            f"Received: {list(frames.shape)}"
        )
    lengths = np.asarray(n_frames)
    if lengths.shape != frames.shape[:1] or (lengths.size and lengths.dtype.kind not in "iu"):
        raise OptionError(
            f"n_frames must be {len(frames)} whole numbers, one per clip. "
            f"Received: {lengths.dtype} {list(lengths.shape)}"
        )
    if lengths.size and not 0 <= lengths.min() <= lengths.max() <= frames.shape[1]:
        raise OptionError(
            f"n_frames must be from 0 to {frames.shape[1]}, the number of rows. "
            f"Received: {lengths.min()} to {lengths.max()}"
        )
    return lengths.astype(np.int32)


def _clip_frames(card: dict[str, Any], directory: Path) -> int:
    value = card.get("clip_frames", DEFAULT_WINDOW)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise BundleError(
            f"{directory / CARD_FILE}: 'clip_frames' must be a whole number, at least 1. "
            f"Received: {value!r}.\n{HOW_TO_REPAIR}"
        )
    return value


def _calibrations(card: dict[str, Any], directory: Path) -> dict[str, Calibration]:
    try:
        return {
            str(embedder): Calibration.from_json(values)
            for embedder, values in dict(card.get("calibration", {})).items()
        }
    except (OptionError, TypeError, ValueError) as error:
        raise BundleError(
            f"{directory / CARD_FILE}: 'calibration' is wrong: {error}.\n{HOW_TO_REPAIR}"
        ) from error


def _session(model: bytes, directory: Path, n_threads: int) -> Any:
    """Make a session on the CPU, where such small networks are fastest."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = n_threads
    # Idle threads that spin would take cores from the embedder.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no public base class
        raise BundleError(
            f"cannot load the head of the bundle {directory}: {first_line(error)}"
        ) from error
    inputs = {tensor.name: tensor.type for tensor in session.get_inputs()}
    outputs = [tensor.name for tensor in session.get_outputs()]
    if inputs != _INPUTS or sorted(outputs) not in (["scores"], ["frame_scores", "scores"]):
        raise BundleError(
            f"{directory / HEAD_FILE} is not a head: it must map frames (uint8) and n_frames "
            f"(int32) to scores. Received: {inputs} -> {outputs}.\n{HOW_TO_MAKE}"
        )
    return session


def read_weights(bundle: Bundle) -> Weights:
    """Read the weights of a head for fine-tuning; a `RunError` if the bundle has none."""
    path = bundle.directory / WEIGHTS_FILE
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            return {name: file[name].astype(np.float32) for name in file.files}
    except FileNotFoundError as error:
        raise RunError(
            f"{bundle.directory} cannot be fine-tuned: it has no {WEIGHTS_FILE} (ensembles have "
            "none)"
        ) from error
    except Exception as error:  # zipfile, zlib and numpy each have their own
        raise RunError(f"{path} is damaged: {error}") from error
