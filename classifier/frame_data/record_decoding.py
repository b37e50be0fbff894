"""Decode records into clips: id, frames, labels and embedder.

    kind                record                 frames
    audioset frames     SequenceExample        feature list `audio_embedding`
    youtube8m frames    SequenceExample        feature list `audio`; `rgb` is ignored
    youtube8m video     Example                feature `mean_audio`, as a clip of one frame
    audiotag FORMAT     output of `audiotag embed`

A frame is 128 bytes or 128 numbers. Numbers are codes (integers from 0 to 255), or dequantised
values, which are quantised again. Raw embeddings are refused.

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

_FRAME_LISTS = {"audio_embedding": "audioset frames", "audio": "youtube8m frames"}
_MEAN_KEY = "mean_audio"
_RGB_SIZE = 1024
# The largest dequantised value is 2.0078; a float may be rounded up.
_MAX_DEQUANTIZED = QUANTIZE_MAX + 0.01
_MAX_LABEL = np.iinfo(np.int32).max


class Record(NamedTuple):
    """A decoded record; its kind is one of the table above."""

    kind: str
    clip_id: str  # "" if the record has none
    frames: Frames
    labels: tuple[int, ...] | None  # distinct class indices
    embedder: str  # "" if the record does not name one


def decode_message(message: Any) -> Record:
    """Decode an `UnparsedSequenceExample` from a TFRecord of AudioSet, YouTube-8M or our own.

    Raises a `ValueError`, `TypeError` or `LookupError` that tells why the record is invalid.
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
    return Record(kind, _clip_id(context), frames, _labels(context), _embedder(metadata))


def decode_clip(clip: ClipFrames, kind: str) -> Record:
    """Validate a clip from the output of `embed`; raises as `decode_message` does."""
    frames = _as_codes(clip.frames, clip.metadata.get("values"))
    labels = _checked_labels(tuple(map(operator.index, clip.labels)))
    return Record(kind, clip.clip_id, frames, labels, _embedder(clip.metadata))


def _no_frames(keys: list[str]) -> str:
    expected = ", ".join(repr(key) for key in (*_FRAME_LISTS, _MEAN_KEY))
    received = ", ".join(repr(key) for key in sorted(keys)[:8]) or "no features"
    return f"no audio features: expected one of {expected}. Received: {received}"


def _clip_id(context: Any) -> str:
    for key in ("video_id", "id"):
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
        raise ValueError(
            "labels must be class indices (int64), not text or floats (a multi-hot vector? Write "
            "the indices of its ones)"
        )
    return _checked_labels(labels)


def _checked_labels(labels: tuple[int, ...]) -> tuple[int, ...] | None:
    """Distinct labels; None for an empty list, which writers use for unknown labels."""
    if not labels:
        return None
    if min(labels) < 0 or max(labels) > _MAX_LABEL:
        raise ValueError(
            f"labels must be class indices of at least 0. Received: {list(labels)[:8]}"
        )
    distinct = tuple(dict.fromkeys(labels))
    if len(distinct) < len(labels) and max(labels) <= 1:
        raise ValueError(
            f"labels must be class indices. Received: {len(labels)} values that repeat 0 or 1 (a "
            "multi-hot vector? Write the indices of its ones)"
        )
    return distinct


def _metadata(context: Any) -> dict[str, Any]:
    if METADATA_KEY not in context:
        return {}
    metadata = json.loads(context[METADATA_KEY].bytes_list.value[0])
    if not isinstance(metadata, dict):
        raise TypeError(f"{METADATA_KEY} must be a JSON object")
    return metadata


def _embedder(metadata: dict[str, Any]) -> str:
    embedder = metadata.get("embedder") or ""
    return str(embedder.get("name", "") if isinstance(embedder, dict) else embedder)


def _frames(rows: bytes, values: str | None) -> Frames:
    """Frames from a serialised `FeatureList`; `values` is their kind in our metadata."""
    prefix, pattern = _plain_rows()
    if pattern.fullmatch(rows):
        width = len(prefix) + EMBEDDING_SIZE
        table = np.frombuffer(rows, np.uint8).reshape(-1, width)
        return np.ascontiguousarray(table[:, len(prefix) :])
    return _as_codes(_stacked(message_class("FeatureList").FromString(rows).feature), values)


@functools.cache
def _plain_rows() -> tuple[bytes, re.Pattern[bytes]]:
    """The bytes before each row of 128 bytes, and a pattern that matches such rows only.

    The released files have this form; parsing the messages takes five times as long.
    """
    message = message_class("FeatureList")()
    row = bytes(EMBEDDING_SIZE)
    message.feature.add().bytes_list.value.append(row)
    prefix = message.SerializeToString().removesuffix(row)
    return prefix, re.compile(b"(?:%b.{%d})+" % (re.escape(prefix), len(row)), re.DOTALL)


def _stacked(features: Sequence[Any]) -> npt.NDArray[Any]:
    """Stack features into rows, uint8 or float32 [n, 128]."""
    rows = [_row(feature) for feature in features]
    if any(len(row) != EMBEDDING_SIZE for row in rows):
        width = next(len(row) for row in rows if len(row) != EMBEDDING_SIZE)
        hint = " (visual features, rgb?)" if width == _RGB_SIZE else ""
        raise ValueError(f"a frame must have {EMBEDDING_SIZE} values. Received: {width}{hint}")
    if len({row.dtype for row in rows}) > 1:
        raise ValueError("frames must be all bytes or all numbers. Received: both")
    return np.stack(rows) if rows else np.zeros((0, EMBEDDING_SIZE), np.uint8)


def _row(feature: Any) -> npt.NDArray[Any]:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
    return np.array(getattr(feature, kind).value if kind else [], np.float32)


def _as_codes(values: npt.NDArray[Any], declared: Any) -> Frames:
    """Convert codes, dequantised values or PCA values [n, 128] to codes, uint8 [n, 128]."""
    if values.dtype == np.uint8 or values.size == 0:
        return values.astype(np.uint8, copy=False)
    if declared == "raw":
        raise ValueError("these are raw embeddings, before PCA; embed with --values uint8")
    if not np.isfinite(values).all():
        raise ValueError("values must be finite. Received: NaN or infinity")
    low, high = float(values.min()), float(values.max())
    if declared == "pca" or max(high, -low) <= _MAX_DEQUANTIZED:
        return quantize(values)
    if low < 0 or high >= N_LEVELS or (values != np.floor(values)).any():
        raise ValueError(
            f"values must be codes (integers, 0 to {N_LEVELS - 1}) or dequantised (-2 to 2). "
            f"Received: {low:g} to {high:g} (raw embeddings, before PCA? Embed with --values uint8)"
        )
    return values.astype(np.uint8)
