"""Predict scores for clips of frames and write them clip by clip, in constant memory.

format   contents
yt8m     YouTube-8M's CSV: `VideoId,LabelConfidencePairs`, then `id,label score ...`, best first,
         as `%i %g`
wide     CSV with a column for each class, as for Kaggle: `fname`, then the class names
jsonl    {"clip", "tags": [{"label", "mid", "index", "score"}, ...]}, one line per clip
parquet  clip, scores (float32 [C], one list per row); the labels and the bundle are in the
         schema's metadata `audiotag`
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from classifier.bundles.bundle import Bundle, score_batches
from classifier.names import PREDICTION_FORMATS
from classifier.tags.choice import Choice, top_indices
from classifier.tags.types import Scores
from vggish.common.csv_table import csv_text
from vggish.common.files import atomic_write
from vggish.common.wording import as_text
from vggish.errors import FrameFileError, OptionError
from vggish.frames.tables import import_arrow

if TYPE_CHECKING:
    from classifier.frame_data.clips import Clip

DEFAULT_TOP_K = 20
YT8M_HEADER = "VideoId,LabelConfidencePairs"
_PARQUET_KEY = b"audiotag"
_ROW_GROUP = 1 << 12
Batches = Iterator[tuple[Sequence[str], Scores]]


@dataclass
class PredictReport:
    """Counts of the clips that were written; the embedder is "" if a record does not name one."""

    n_clips: int = 0
    embedders: dict[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The counts, JSON-ready."""
        return asdict(self)


def format_of(path: str) -> str:
    """The format of predictions that the suffix of a file names, or an `OptionError`."""
    formats = {".csv": "yt8m", ".jsonl": "jsonl", ".parquet": "parquet"}
    file_format = formats.get(Path(path).suffix.lower())
    if file_format is None:
        raise OptionError(
            f"cannot tell the format of {path}; use .csv, .jsonl or .parquet, or --format"
        )
    return file_format


def predict(
    bundle: Bundle,
    clips: Iterable[Clip],
    out: str | Path | IO[bytes],
    file_format: str,
    *,
    top_k: int = DEFAULT_TOP_K,
    force: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> PredictReport:
    """Score clips batch by batch and write their scores as yt8m, wide, jsonl or parquet.

    `out` is a path, which gets its name only when the file is complete, or a binary file. `top_k`
    classes per clip are written in yt8m and jsonl; the other formats have all. `force` accepts
    frames of an embedder that the bundle is not for. `on_progress` is called with the number of
    clips so far.

    Raises a `BundleError` for frames of another embedder, a `FrameFileError` if the file cannot be
    written, and an `OptionError` for an unknown format or a `top_k` below 1.
    """
    if file_format not in PREDICTION_FORMATS:
        raise OptionError(
            f"the format of predictions must be one of {', '.join(PREDICTION_FORMATS)}. "
            f"Received: {file_format!r}"
        )
    Choice(top_k)
    if file_format == "parquet":
        import_arrow()
    report = PredictReport()
    batches = _scored(bundle, clips, report, force, on_progress)
    try:
        with _opened(out) as file:
            _FORMATS[file_format](file, bundle, batches, top_k)
    except BrokenPipeError:
        raise  # the reader of a pipe may stop early
    except OSError as error:
        name = str(out) if isinstance(out, (str, Path)) else "the predictions"
        raise FrameFileError(f"cannot write {name}: {error.strerror or error}") from error
    return report


def _scored(
    bundle: Bundle,
    clips: Iterable[Clip],
    report: PredictReport,
    force: bool,
    on_progress: Callable[[int], None] | None,
) -> Batches:
    def checked() -> Iterator[Clip]:
        for clip in clips:
            bundle.check_embedder(clip.embedder, force, what=clip.source)
            yield clip

    for batch, scores in score_batches(bundle, checked()):
        yield [as_text(clip.clip_id) for clip in batch], scores
        for clip in batch:
            report.embedders[clip.embedder] = report.embedders.get(clip.embedder, 0) + 1
        report.n_clips += len(batch)
        if on_progress is not None:
            on_progress(report.n_clips)


def _opened(out: str | Path | IO[bytes]) -> contextlib.AbstractContextManager[IO[bytes]]:
    if isinstance(out, (str, Path)):
        return atomic_write(Path(out))
    return contextlib.nullcontext(out)


def _write_yt8m(file: IO[bytes], bundle: Bundle, batches: Batches, top_k: int) -> None:
    file.write(f"{YT8M_HEADER}\n".encode())
    for ids, scores in batches:
        best = top_indices(scores, top_k).tolist()
        rows = zip(ids, best, scores.tolist(), strict=True)
        lines = (
            [clip_id, " ".join(f"{index} {row[index]:g}" for index in indices)]
            for clip_id, indices, row in rows
        )
        file.write(csv_text(*lines).encode())


def _write_wide(file: IO[bytes], bundle: Bundle, batches: Batches, top_k: int) -> None:
    file.write(csv_text(["fname", *bundle.labels.names]).encode())
    # Nine digits restore every float32.
    number = "%.9g".__mod__
    for ids, scores in batches:
        rows = zip(ids, scores.tolist(), strict=True)
        file.write(csv_text(*([clip_id, *map(number, row)] for clip_id, row in rows)).encode())


def _write_jsonl(file: IO[bytes], bundle: Bundle, batches: Batches, top_k: int) -> None:
    choice = Choice(top_k)
    for ids, scores in batches:
        for clip_id, tags in zip(ids, choice.tags(scores, bundle.labels), strict=True):
            line = {"clip": clip_id, "tags": [tag.as_json() for tag in tags]}
            file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")


def _write_parquet(file: IO[bytes], bundle: Bundle, batches: Batches, top_k: int) -> None:
    arrow, parquet = import_arrow()
    labels = zip(bundle.labels.names, bundle.labels.mids, strict=True)
    listed = [{"label": name, "mid": mid} for name, mid in labels]
    metadata = {"labels": listed, "model": bundle.provenance}
    n_classes = len(bundle.labels)
    schema = arrow.schema(
        [("clip", arrow.string()), ("scores", arrow.list_(arrow.float32(), n_classes))],
        metadata={_PARQUET_KEY: json.dumps(metadata).encode()},
    )
    with parquet.ParquetWriter(file, schema) as writer:
        for ids, scores in _row_groups(batches):
            rows = arrow.FixedSizeListArray.from_arrays(arrow.array(scores.reshape(-1)), n_classes)
            columns = [arrow.array(ids, arrow.string()), rows]
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema))


def _row_groups(batches: Batches) -> Batches:
    """Join batches, because small row groups are wasteful."""
    ids: list[str] = []
    waiting: list[Scores] = []
    for some, scores in batches:
        ids += some
        waiting.append(scores)
        if len(ids) >= _ROW_GROUP:
            yield ids, np.concatenate(waiting)
            ids, waiting = [], []
    if ids:
        yield ids, np.concatenate(waiting)


_FORMATS: dict[str, Callable[[IO[bytes], Bundle, Batches, int], None]] = {
    "yt8m": _write_yt8m,
    "wide": _write_wide,
    "jsonl": _write_jsonl,
    "parquet": _write_parquet,
}
