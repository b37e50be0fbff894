"""TFRecord files as written by other tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import frame_record

RGB = [[7] * 1024]


def make_frames(n: int = 3, seed: int = 0) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, 128), np.uint8)


def make_record(
    context: dict[str, Any] | None = None, lists: dict[str, Sequence[Any]] | None = None
) -> bytes:
    """Serialise a `SequenceExample`; the types of values decide the kinds of features."""
    message = message_class("SequenceExample")()
    for key, values in (context or {}).items():
        fill(message.context.feature[key], values)
    for key, rows in (lists or {}).items():
        feature_list = message.feature_lists.feature_list[key]
        feature_list.SetInParent()
        for row in rows:
            fill(feature_list.feature.add(), row)
    return bytes(message.SerializeToString())


def fill(feature: Any, values: Any) -> None:
    if isinstance(values, np.ndarray):
        values = values.tobytes() if values.dtype == np.uint8 else values.tolist()
    if isinstance(values, (str, bytes)):
        values = [values.encode() if isinstance(values, str) else values]
    kind = {bytes: "bytes_list", float: "float_list", int: "int64_list"}
    if values:
        getattr(feature, kind[type(values[0])]).value.extend(values)
    else:
        feature.int64_list.SetInParent()


def audioset_record(clip_id: str = "a", n: int = 3, seed: int = 0, labels: Any = (5,)) -> bytes:
    context = {
        "video_id": clip_id,
        "start_time_seconds": [0.0],
        "end_time_seconds": [10.0],
        "labels": list(labels),
    }
    return make_record(context, {"audio_embedding": make_frames(n, seed)})


def write_records(path: Path, *records: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(frame_record(record) for record in records))
    return path
