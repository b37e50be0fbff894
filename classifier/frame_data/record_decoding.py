"""What a record holds: a clip's id, frames, labels and embedder, of every kind there is.

    kind                where                  frames
    audioset frames     SequenceExample        feature list `audio_embedding`
    youtube8m frames    SequenceExample        feature list `audio`; `rgb` is left aside
    youtube8m video     Example                feature `mean_audio`, taken as a clip of one frame
    audiotag FORMAT     whatever `embed` wrote

A row is 128 bytes or 128 numbers. Numbers are codes (whole, 0 to 255) or dequantised values,
which are quantised again; raw embeddings are refused.

Source: the readers of the YouTube-8M starter code, and AudioSet's download page.
"""

from __future__ import annotations

import functools
import json
import operator
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from vggish.frames.clip import ClipFrames, Frames
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import METADATA_KEY
from vggish.params import EMBEDDING_SIZE, QUANTIZE_MAX
from vggish.postprocess import N_LEVELS, quantize

_ID_KEYS = ("video_id", "id")

_FRAME_LISTS = {"audio_embedding": "audioset frames", "audio": "youtube8m frames"}

_MEAN_KEY = "mean_audio"

_RGB_SIZE = 1024

# Dequantised values end at 2.0078; a float may be rounded beyond that.
_MAX_DEQUANTIZED = QUANTIZE_MAX + 0.01

_MAX_LABEL = np.iinfo(np.int32).max


class Parts(NamedTuple):
    """What a record holds.

    Attributes:
        kind: of the record, as in the table above.
        clip_id: "" where the record has none.
        frames: uint8 [n, 128], codes of the quantiser.
        labels: class indices, all different; None where the record has none.
        embedder: name of what made the frames, "" where the record does not say.
    """

    kind: str
    clip_id: str
    frames: Frames
    labels: tuple[int, ...] | None
    embedder: str


def parts_of_message(message: Any) -> Parts:
    """Decode a record of AudioSet's, YouTube-8M's or our own TFRecords.

    Args:
        message: an `UnparsedSequenceExample`.

    Raises:
        ValueError, TypeError, LookupError: it is no good; the message says in what.
    """
    context = message.context.feature
    lists = message.feature_lists.feature_list
    metadata = _metadata(context)
    for key, kind in _FRAME_LISTS.items():
        if key in lists:
            if METADATA_KEY in context:
                kind = "audiotag tfrecord"
            frames = _frames(lists[key], metadata.get("values"))
            break
    else:
        if _MEAN_KEY not in context:
            raise ValueError(_no_frames([*context, *lists]))
        kind, frames = "youtube8m video", _as_codes(_stacked([context[_MEAN_KEY]]), None)
    return Parts(kind, _clip_id(context), frames, _labels(context), _embedder(metadata))


def parts_of_clip(clip: ClipFrames, kind: str) -> Parts:
    """Check a clip of a file that `embed` wrote; errors as of `parts_of_message`."""
    frames = _as_codes(clip.frames, clip.metadata.get("values"))
    labels = _checked_labels(tuple(map(operator.index, clip.labels)))
    return Parts(kind, clip.clip_id, frames, labels, _embedder(clip.metadata))


def _no_frames(keys: list[str]) -> str:
    wanted = ", ".join(repr(key) for key in (*_FRAME_LISTS, _MEAN_KEY))
    received = ", ".join(repr(key) for key in sorted(keys)[:8]) or "no features at all"
    return f"it has no frames of sound, neither {wanted}. Received: {received}"


def _clip_id(context: Any) -> str:
    for key in _ID_KEYS:
        values = context[key].bytes_list.value if key in context else ()
        if values and values[0]:
            name: str = values[0].decode("utf-8", "backslashreplace")
            return name
    return ""


def _labels(context: Any) -> tuple[int, ...] | None:
    if "labels" not in context:
        return None
    feature = context["labels"]
    labels = tuple(feature.int64_list.value)
    if not labels and feature.WhichOneof("kind") not in (None, "int64_list"):
        raise ValueError("its labels are no class indices (int64), but text or fractions")
    return _checked_labels(labels)


def _checked_labels(labels: tuple[int, ...]) -> tuple[int, ...] | None:
    """Labels without repeats; None for none, as writers put an empty list where they know none."""
    if not labels:
        return None
    if min(labels) < 0 or max(labels) > _MAX_LABEL:
        raise ValueError(f"labels must be class indices from 0. Received: {list(labels)[:8]}")
    return labels if len(set(labels)) == len(labels) else tuple(dict.fromkeys(labels))


def _metadata(context: Any) -> dict[str, Any]:
    if METADATA_KEY not in context:
        return {}
    metadata = json.loads(context[METADATA_KEY].bytes_list.value[0])
    if not isinstance(metadata, dict):
        raise TypeError(f"its {METADATA_KEY} is no JSON object")
    return metadata


def _embedder(metadata: dict[str, Any]) -> str:
    embedder = metadata.get("embedder") or ""
    return str(embedder.get("name", "") if isinstance(embedder, dict) else embedder)


def _frames(rows: bytes, values: str | None) -> Frames:
    """Frames from a serialised `FeatureList`; `values` is what our metadata calls them."""
    prefix, pattern = _plain_rows()
    if pattern.fullmatch(rows):
        width = len(prefix) + EMBEDDING_SIZE
        table = np.frombuffer(rows, np.uint8).reshape(-1, width)
        return np.ascontiguousarray(table[:, len(prefix) :])
    return _as_codes(_stacked(message_class("FeatureList").FromString(rows).feature), values)


@functools.cache
def _plain_rows() -> tuple[bytes, re.Pattern[bytes]]:
    """What stands before each row of 128 bytes, and a pattern of such rows alone.

    That is how the released files are; going through the messages would take five times as long.
    """
    message = message_class("FeatureList")()
    row = bytes(EMBEDDING_SIZE)
    message.feature.add().bytes_list.value.append(row)
    prefix = message.SerializeToString().removesuffix(row)
    return prefix, re.compile(b"(?:%b.{%d})+" % (re.escape(prefix), len(row)), re.DOTALL)


def _stacked(features: Sequence[Any]) -> npt.NDArray[Any]:
    """Rows of features, uint8 or float32 [n, 128]."""
    rows = [_row(feature) for feature in features]
    if any(len(row) != EMBEDDING_SIZE for row in rows):
        width = next(len(row) for row in rows if len(row) != EMBEDDING_SIZE)
        what = " (features of pictures, rgb)" if width == _RGB_SIZE else ""
        raise ValueError(f"a frame must have {EMBEDDING_SIZE} values. Received: {width}{what}")
    if len({row.dtype for row in rows}) > 1:
        raise ValueError("some of its frames are bytes, and some are numbers")
    return np.stack(rows) if rows else np.zeros((0, EMBEDDING_SIZE), np.uint8)


def _row(feature: Any) -> npt.NDArray[Any]:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
    return np.array(getattr(feature, kind).value if kind else [], np.float32)


def _as_codes(values: npt.NDArray[Any], declared: Any) -> Frames:
    """Codes, uint8 [n, 128], from codes, dequantised values or PCA values [n, 128]."""
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8, copy=False)
    if declared == "raw":
        raise ValueError("raw embeddings, before PCA; embed with --values uint8")
    if not np.isfinite(values).all():
        raise ValueError("it holds values that are no numbers (NaN or infinite)")
    low, high = float(values.min()), float(values.max())
    if declared == "pca" or max(high, -low) <= _MAX_DEQUANTIZED:
        return quantize(values)
    if low < 0 or high >= N_LEVELS or (values != np.floor(values)).any():
        raise ValueError(
            f"values must be codes (whole, 0 to {N_LEVELS - 1}) or dequantised (-2 to 2). "
            f"Received: {low:g} to {high:g} (raw embeddings, before PCA? Embed with --values uint8)"
        )
    return values.astype(np.uint8)
