"""FLAC files: joined ones, and those whose header states too few samples."""

from __future__ import annotations

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.layout import MAX_LINKS, Found, Link
from vggish.audio.containers.tags import end_of_audio

_HEADER_BYTES = 42  # the magic number, and the block STREAMINFO
_MAX_TOTAL = (1 << 36) - 1


def find_flac(data: FileBytes, start: int) -> Found | None:
    """The links of FLAC files that follow one another; None if no FLAC header is at `start`."""
    if not _is_header(data, start):
        return None
    starts = [start]
    while (following := _next_header(data, starts[-1] + 4)) is not None:
        if len(starts) == MAX_LINKS:
            break
        starts.append(following)
    ends = [*starts[1:], end_of_audio(data, starts[-1]) if following is None else following]
    links = tuple(_link(data, *span) for span in zip(starts, ends, strict=True))
    return Found(links, next_file=following)


def _next_header(data: FileBytes, position: int) -> int | None:
    # The four bytes may also occur in a picture or in the audio.
    while (position := data.find(b"fLaC", position)) >= 0:
        if _is_header(data, position):
            return position
        position += 4
    return None


def _is_header(data: FileBytes, position: int) -> bool:
    head = data.at(position, _HEADER_BYTES)
    is_streaminfo = head[:4] == b"fLaC" and head[5:8] == b"\0\0\x22" and head[4] & 0x7F == 0
    return is_streaminfo and len(head) == _HEADER_BYTES


def _link(data: FileBytes, start: int, end: int) -> Link:
    """A FLAC file whose header states no number of samples, so that it is read to its end."""
    header = data.at(start, _HEADER_BYTES)
    fields = int.from_bytes(header[18:26], "big")
    total = fields & _MAX_TOTAL
    header = header[:18] + (fields & ~_MAX_TOTAL).to_bytes(8, "big") + header[26:]
    n_frames = total or None
    return Link(start + _HEADER_BYTES, end, header, n_frames, may_have_more=True)
