"""TFRecord files of AudioSet-format clips, without TensorFlow.

A TFRecord file is a sequence of (length, crc of length, data, crc of data), little-endian,
with masked CRC-32C. The data is a `SequenceExample`: context `video_id`, `start_time_seconds`,
`end_time_seconds`, `labels`; feature list `audio_embedding`, one row a frame. Ours add the
context feature `audiotag_metadata`, the provenance as JSON, and `audiotag_start_seconds`
where the times of the frames are not simply multiples of the hop.

Source: the format notes of AudioSet's feature download and of TensorFlow's `record_writer`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, frame_array
from vggish.frames.protobuf import message_class
from vggish.params import EMBEDDING_SIZE

METADATA_KEY = "audiotag_metadata"

TIMES_KEY = "audiotag_start_seconds"

# AudioSet's released features advance by one second a row; our own say their hop.
AUDIOSET_HOP_SECONDS = 1.0

# Other writers call it `id` (tensorflow/models#5345).
_ID_KEYS = ("video_id", "id")

# No protocol buffer is larger.
_MAX_RECORD_BYTES = 1 << 31


def frame_record(data: bytes) -> bytes:
    """`data` as it stands in a TFRecord file: with its length and checksums."""
    length = struct.pack("<Q", len(data))
    checksums = (struct.pack("<I", _masked_crc(part)) for part in (length, data))
    return length + next(checksums) + data + next(checksums)


def read_records(file: BinaryIO, name: str) -> Iterator[bytes]:
    """The records of an open TFRecord file, in order.

    Raises:
        FrameFileError: a record is cut off or damaged; the message names file and record.
    """
    for record in scan_records(file, name):
        if isinstance(record, FrameFileError):
            raise record
        yield record


def starts_record(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are the length of a record with its checksum."""
    return len(head) == 12 and _masked_crc(head[:8]) == struct.unpack("<I", head[8:])[0]


def scan_records(file: BinaryIO, name: str) -> Iterator[bytes | FrameFileError]:
    """The records of an open TFRecord file, in order, with an error in place of a damaged one.

    What follows damaged data is read; where the length is damaged or cut off, the error is the
    last that comes.
    """
    number = 0
    while header := file.read(12):
        number += 1
        where = f"{name}, record {number}"
        if len(header) < 12:
            yield FrameFileError(f"{where}: the file ends within it; the rest is missing")
            return
        if not starts_record(header):
            yield FrameFileError(
                f"{where}: damaged, or no TFRecord file (wrong length checksum); it and all that "
                "follows in the file are lost"
            )
            return
        length = struct.unpack("<Q", header[:8])[0]
        body = file.read(length + 4) if length <= _MAX_RECORD_BYTES else b""
        if len(body) < length + 4:
            yield FrameFileError(f"{where}: the file ends within it; the rest is missing")
            return
        data = body[:length]
        if _masked_crc(data) != struct.unpack("<I", body[length:])[0]:
            yield FrameFileError(f"{where}: damaged (wrong checksum)")
        else:
            yield data


def encode_clip(clip: ClipFrames) -> bytes:
    """A clip as a serialised `SequenceExample`: uint8 frames as bytes, float32 as float lists."""
    example = message_class("SequenceExample")()
    context = example.context.feature
    context["video_id"].bytes_list.value.append(clip.clip_id.encode())
    context["start_time_seconds"].float_list.value.append(0.0)
    duration = float(clip.metadata.get("duration_seconds", 0.0))
    context["end_time_seconds"].float_list.value.append(duration)
    context["labels"].int64_list.value.extend(clip.labels)
    context[METADATA_KEY].bytes_list.value.append(json.dumps(clip.metadata).encode())
    times = clip.start_seconds.tolist()
    if times != _regular_times(len(clip), clip.metadata):
        context[TIMES_KEY].bytes_list.value.append(json.dumps(times).encode())
    rows = example.feature_lists.feature_list["audio_embedding"].feature
    for row in clip.frames:
        if clip.frames.dtype == np.uint8:
            rows.add().bytes_list.value.append(row.tobytes())
        else:
            rows.add().float_list.value.extend(row.tolist())
    # Maps have no order of their own; equal clips shall be equal bytes.
    return bytes(example.SerializeToString(deterministic=True))


def decode_clip(data: bytes, where: str) -> ClipFrames:
    """A clip from a serialised `SequenceExample`, ours or AudioSet's.

    A missing id becomes "", missing labels become none; without our metadata the frames are
    taken to advance by 1 s, as AudioSet's do.

    Raises:
        FrameFileError: no such message, or no `audio_embedding` of 128 values a row.
    """
    example = message_class("SequenceExample")()
    try:
        example.ParseFromString(data)
    except Exception as error:  # protobuf's DecodeError lies at another place in each version
        raise FrameFileError(f"{where}: no SequenceExample ({error})") from error
    try:
        return _clip(example)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FrameFileError(f"{where}: {error}") from error


def _clip(example: Any) -> ClipFrames:
    context = example.context.feature
    if "audio_embedding" not in example.feature_lists.feature_list:
        raise ValueError("it has no feature list 'audio_embedding'")
    rows = example.feature_lists.feature_list["audio_embedding"].feature
    values = [_row(row) for row in rows]
    if any(len(value) != EMBEDDING_SIZE for value in values):
        raise ValueError(f"a row of 'audio_embedding' has not {EMBEDDING_SIZE} values")
    if len({value.dtype for value in values}) > 1:
        raise ValueError("some rows of 'audio_embedding' are bytes, and some are floats")
    metadata = _from_json(context, METADATA_KEY, {})
    quantised = metadata.get("values", "uint8") == "uint8"
    if values:
        quantised = values[0].dtype == np.uint8
    times = _from_json(context, TIMES_KEY, _regular_times(len(values), metadata))
    ids = [context[key].bytes_list.value[0].decode() for key in _ID_KEYS if key in context]
    return ClipFrames(
        ids[0] if ids else "",
        frame_array(values, quantised),
        np.array(times, np.float64),
        metadata,
        tuple(context["labels"].int64_list.value) if "labels" in context else (),
    )


def _from_json(context: Any, key: str, missing: Any) -> Any:
    return json.loads(context[key].bytes_list.value[0]) if key in context else missing


def _regular_times(n: int, metadata: dict[str, Any]) -> list[float]:
    hop_seconds = metadata.get("hop_seconds", AUDIOSET_HOP_SECONDS)
    times: list[float] = np.round(np.arange(n) * hop_seconds, 6).tolist()
    return times


def _row(feature: Any) -> Any:
    if feature.WhichOneof("kind") == "bytes_list":
        return np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
    return np.array(feature.float_list.value, np.float32)


def _masked_crc(data: bytes) -> int:
    import google_crc32c

    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
