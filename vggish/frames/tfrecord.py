"""TFRecord files of AudioSet-format clips, without TensorFlow.

A TFRecord file is a sequence of (length, CRC of length, data, CRC of data), little-endian, with
masked CRC-32C. The data is a `SequenceExample`: context `video_id`, `start_time_seconds`,
`end_time_seconds`, `labels`; feature list `audio_embedding`, one row per frame. audiotag adds the
context features `audiotag_metadata`, the provenance as JSON, and `audiotag_start_seconds` if the
start times are not multiples of the hop.

Source: the format notes of AudioSet's feature download, and TensorFlow's `record_writer`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import IO, Any, BinaryIO

import google_crc32c
import numpy as np

from vggish.errors import FrameFileError
from vggish.frames.clip import ClipFrames, Clips, as_clips, frame_array
from vggish.frames.protobuf import message_class
from vggish.params import EMBEDDING_SIZE

METADATA_KEY = "audiotag_metadata"
TIMES_KEY = "audiotag_start_seconds"
# Limit of a protocol buffer.
_MAX_RECORD_BYTES = 1 << 31


def write_tfrecord(file: IO[bytes], clips: ClipFrames | Clips) -> None:
    """Write clips."""
    for clip in as_clips(clips):
        file.write(frame_record(encode_clip(clip)))


def read_tfrecord(file: BinaryIO, name: str) -> Iterator[ClipFrames]:
    """Read clips; errors call the file `name`."""
    for number, record in enumerate(read_records(file, name), start=1):
        yield decode_clip(record, f"{name}, record {number}")


def frame_record(data: bytes) -> bytes:
    """Add the length and checksums that a TFRecord file has around `data`."""
    length = struct.pack("<Q", len(data))
    header, footer = (struct.pack("<I", masked_crc(part)) for part in (length, data))
    return length + header + data + footer


def read_records(file: BinaryIO, name: str) -> Iterator[bytes]:
    """Read the records of an open TFRecord file; raise the error of a damaged record."""
    for record in scan_records(file, name):
        if isinstance(record, FrameFileError):
            raise record
        yield record


def starts_record(head: bytes) -> bool:
    """Whether the first 12 bytes of a file are the length of a record and its checksum."""
    return len(head) == 12 and masked_crc(head[:8]) == struct.unpack("<I", head[8:])[0]


def scan_records(file: BinaryIO, name: str) -> Iterator[bytes | FrameFileError]:
    """Read the records of an open TFRecord file; yield an error in place of a damaged record.

    Reading continues after damaged data, and ends after a damaged or truncated length.
    """
    number = 0
    while header := file.read(12):
        number += 1
        where = f"{name}, record {number}"
        truncated = FrameFileError(f"{where}: the file ends within it; the rest is missing")
        if len(header) < 12:
            yield truncated
            return
        if not starts_record(header):
            yield FrameFileError(
                f"{where}: damaged, or not a TFRecord file (wrong length checksum); this record "
                "and the rest of the file are lost"
            )
            return
        length = struct.unpack("<Q", header[:8])[0]
        body = file.read(length + 4) if length <= _MAX_RECORD_BYTES else b""
        if len(body) < length + 4:
            yield truncated
            return
        data = body[:length]
        is_intact = masked_crc(data) == struct.unpack("<I", body[length:])[0]
        yield data if is_intact else FrameFileError(f"{where}: damaged (wrong checksum)")


def encode_clip(clip: ClipFrames) -> bytes:
    """Serialise a clip as a `SequenceExample`: uint8 frames as bytes, float32 as float lists."""
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
    # Maps have no order of their own, but equal clips must give equal bytes.
    return bytes(example.SerializeToString(deterministic=True))


def decode_clip(data: bytes, where: str) -> ClipFrames:
    """Parse a clip from a serialised `SequenceExample`, audiotag's or AudioSet's.

    A missing id becomes "", missing labels become (). Without audiotag's metadata, frames are
    assumed to advance by 1 s, as AudioSet's do.
    """
    example = message_class("SequenceExample")()
    try:
        example.ParseFromString(data)
    except Exception as error:  # the module of protobuf's DecodeError differs between versions
        raise FrameFileError(f"{where}: not a SequenceExample ({error})") from error
    try:
        return _parse_clip(example)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise FrameFileError(f"{where}: {error}") from error


def _parse_clip(example: Any) -> ClipFrames:
    context = example.context.feature
    if "audio_embedding" not in example.feature_lists.feature_list:
        raise ValueError("it has no feature list 'audio_embedding'")
    rows = example.feature_lists.feature_list["audio_embedding"].feature
    values = [_parse_row(row) for row in rows]
    if any(len(value) != EMBEDDING_SIZE for value in values):
        raise ValueError(f"a row of 'audio_embedding' does not have {EMBEDDING_SIZE} values")
    if len({value.dtype for value in values}) > 1:
        raise ValueError("some rows of 'audio_embedding' are bytes, and some are floats")
    metadata = _parse_json(context, METADATA_KEY, {})
    is_uint8 = metadata.get("values", "uint8") == "uint8"
    quantised = values[0].dtype == np.uint8 if values else is_uint8
    times = _parse_json(context, TIMES_KEY, _regular_times(len(values), metadata))
    # Some writers call it `id` (tensorflow/models#5345).
    keys = [key for key in ("video_id", "id") if key in context]
    ids = [context[key].bytes_list.value[0].decode() for key in keys]
    return ClipFrames(
        ids[0] if ids else "",
        frame_array(values, quantised),
        np.array(times, np.float64),
        metadata,
        tuple(context["labels"].int64_list.value) if "labels" in context else (),
    )


def _parse_json(context: Any, key: str, default: Any) -> Any:
    return json.loads(context[key].bytes_list.value[0]) if key in context else default


def _regular_times(n: int, metadata: dict[str, Any]) -> list[float]:
    # Without audiotag's metadata: one frame per second, as in AudioSet's released features.
    times: list[float] = np.round(np.arange(n) * metadata.get("hop_seconds", 1.0), 6).tolist()
    return times


def _parse_row(feature: Any) -> Any:
    if feature.WhichOneof("kind") == "bytes_list":
        return np.frombuffer(b"".join(feature.bytes_list.value), np.uint8)
    return np.array(feature.float_list.value, np.float32)


def masked_crc(data: bytes) -> int:
    """CRC-32C as TFRecord files store it: rotated by 15 bits, plus a constant."""
    crc: int = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
