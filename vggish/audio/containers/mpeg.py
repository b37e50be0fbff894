"""MPEG audio (MP3, MP2): joined files, damage, and headers that state too few frames.

An MPEG file is a sequence of frames. Encoders put a first frame without audio in front, whose tag
(Xing, Info or VBRI) states their number; decoders end there.
"""

from __future__ import annotations

import functools
import struct
from dataclasses import dataclass, field
from typing import NamedTuple

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.layout import MAX_LINKS, Found, Link
from vggish.audio.containers.tags import FILE_STARTS, end_of_audio, skip_tags

# kbit/s by bitrate index, for MPEG-1 layers I, II, III and MPEG-2 layers I, II and III.
_BITRATES = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_RATES_HZ = (44_100, 48_000, 32_000)
_HEADER_BYTES = 4
_FIRST_FRAME_SEARCH_BYTES = 1 << 16
# A hostile file may have something that looks like a frame at every byte.
_MAX_SEARCHES = 1 << 18
_TAG_MIN_BYTES = 192  # of a first frame that we write
_LAME_BYTES = 36


class _Header(NamedTuple):
    """What the header of a frame says."""

    n_bytes: int  # of the whole frame
    kind: tuple[int, int, int, bool]  # version (1, 2 or 3 for 2.5), layer, rate in Hz, is mono
    n_samples: int


@functools.lru_cache(1 << 14)
def _parse(header: bytes) -> _Header | None:
    """The three bytes of a header after 0xFF."""
    versions = {3: 1, 2: 2, 0: 3}
    if len(header) < 3 or header[0] & 0xE0 != 0xE0:
        return None
    version = versions.get(header[0] >> 3 & 3, 0)
    layer = 4 - (header[0] >> 1 & 3)
    bitrate_index, rate_index = header[1] >> 4, header[1] >> 2 & 3
    if version == 0 or layer == 4 or bitrate_index in (0, 15) or rate_index == 3:
        return None
    bitrate = 1000 * _BITRATES[min(version, 2), layer][bitrate_index - 1]
    rate_hz = _RATES_HZ[rate_index] >> (version - 1)
    has_padding = header[1] >> 1 & 1
    n_samples = {1: 384, 2: 1152, 3: 1152 if version == 1 else 576}[layer]
    if layer == 1:
        n_bytes = (12 * bitrate // rate_hz + has_padding) * 4
    else:
        n_bytes = n_samples // 8 * bitrate // rate_hz + has_padding
    return _Header(n_bytes, (version, layer, rate_hz, header[2] >> 6 == 3), n_samples)


@dataclass
class _Run:
    """Frames of one kind that follow one another, from a tag or the start to the next."""

    start: int
    kind: tuple[int, int, int, bool]
    first_frame: int  # with audio
    tag: bytes = b""  # the frame with the tag
    n_frames: int = 0
    end: int = 0

    @property
    def stated_frames(self) -> int | None:
        """The number of frames according to the tag."""
        xing = self.xing
        if xing:
            flags = int.from_bytes(xing[4:8], "big")
            return int.from_bytes(xing[8:12], "big") if flags & 1 else None
        vbri = self.tag[36:54]
        return int.from_bytes(vbri[14:18], "big") if vbri[:4] == b"VBRI" else None

    @property
    def lame(self) -> bytes:
        """The encoder's part of the tag, with the delay and the padding of the audio; or b""."""
        xing = self.xing
        flags = int.from_bytes(xing[4:8], "big")
        fields = (4, 4, 100, 4)
        offset = 8 + sum(size for bit, size in enumerate(fields) if flags >> bit & 1)
        return xing[offset : offset + _LAME_BYTES] if xing else b""

    @property
    def xing(self) -> bytes:
        """The tag from its name on; or b""."""
        for offset in _tag_offsets(self.kind)[:2]:
            if self.tag[offset : offset + 4] in (b"Xing", b"Info"):
                return self.tag[offset:]
        return b""


@dataclass
class _Walk:
    """The runs of frames of a file, and the bytes between them."""

    data: FileBytes
    end: int
    runs: list[_Run] = field(default_factory=list)
    skipped: list[tuple[int, float]] = field(default_factory=list)  # bytes, and seconds before
    n_searches: int = 0

    @property
    def seconds(self) -> float:
        """Duration of the runs so far."""
        return sum(_seconds(run, run.n_frames) for run in self.runs)

    def walk(self, position: int) -> int | None:
        """Find all runs from a first frame on; return where a file of another format begins."""
        while True:
            position = self._run(position)
            if len(self.runs) >= MAX_LINKS:
                return position
            following = skip_tags(self.data, position)
            if following < self.end and self.data.at(following, 4) in FILE_STARTS:
                return following
            if following + _HEADER_BYTES > self.end:
                return None
            found = self.find_frame(following, self.end)
            stop = self.end if found is None else found
            # The rest of a frame that was cut is not worth a warning.
            is_long = stop - following > _frame_bytes(self.runs[-1].kind)
            if is_long and not self.data.is_zero(following, stop):
                self.skipped.append((stop - following, self.seconds))
            if found is None:
                return None
            position = found

    def find_frame(self, start: int, stop: int) -> int | None:
        """The first place from which three frames of one kind follow one another."""
        position = start
        while self.n_searches < _MAX_SEARCHES:
            position = self.data.find(b"\xff", position, stop)
            if position < 0:
                return None
            self.n_searches += 1
            if self._are_frames(position):
                return position
            position += 1
        return None

    def _are_frames(self, position: int) -> bool:
        kind = None
        for n_whole in range(3):
            if position == self.end:
                return n_whole > 0
            header = self._header(position)
            if header is None or kind not in (None, header.kind):
                return False
            kind = header.kind
            position += header.n_bytes
            if position > self.end:
                return n_whole > 0
        return True

    def _header(self, position: int) -> _Header | None:
        head = self.data.at(position, _HEADER_BYTES)
        return _parse(head[1:]) if head[:1] == b"\xff" else None

    def _run(self, position: int) -> int:
        """Add the runs from `position` to the next byte that begins no frame of their kind."""
        at, end, parse = self.data.at, self.end, _parse
        run: _Run | None = None
        while position + _HEADER_BYTES <= end:
            head = at(position, _HEADER_BYTES + 2)
            header = parse(head[1:4]) if head[0] == 0xFF else None
            if header is None or position + header.n_bytes > end:
                break
            if run is None or header.kind != run.kind:
                if run is not None and not self._are_frames(position):
                    break
                run = self._begin(position, header)
            elif head[4:] == b"\0\0" and _is_tag_frame(at(position, header.n_bytes), header.kind):
                if len(self.runs) >= MAX_LINKS:
                    break
                run = self._begin(position, header)
            else:
                run.n_frames += 1
            position += header.n_bytes
            run.end = position
        return position

    def _begin(self, position: int, header: _Header) -> _Run:
        frame = self.data.at(position, header.n_bytes)
        run = _Run(position, header.kind, position)
        if _is_tag_frame(frame, header.kind):
            run.tag, run.first_frame = frame, position + header.n_bytes
        else:
            run.n_frames = 1
        self.runs.append(run)
        return run


def begins_with_frames(data: FileBytes, position: int) -> bool:
    """Whether several MPEG frames follow one another from a position on."""
    return _Walk(data, data.size).find_frame(position, position + 1) is not None


def find_mpeg(data: FileBytes, start: int, *, search: bool, end: int | None = None) -> Found | None:
    """The links of MPEG audio that follow one another; None if no frames are at `start`.

    With `search`, other bytes may stand in front.
    """
    walk = _Walk(data, end_of_audio(data, start) if end is None else end)
    first = walk.find_frame(
        start, min(data.size, start + _FIRST_FRAME_SEARCH_BYTES if search else start + 1)
    )
    if first is None:
        return None
    next_file = walk.walk(first)
    runs = [run for run in walk.runs if run.n_frames]
    if not runs:
        return None
    n_frames = sum(run.n_frames for run in runs)
    warnings = [
        f"{n_bytes:,} bytes after {seconds:.2f} s are not MPEG frames; they were not decoded"
        for n_bytes, seconds in walk.skipped
    ]
    for run in runs:
        stated = run.stated_frames or 0
        # Who joins files may let the first tag state the sum.
        if stated > run.n_frames + 1 and abs(stated - n_frames) > 2 * len(runs):
            warnings.append(
                f"truncated: the header states {_seconds(run, stated):.2f} s of audio, the file "
                f"holds {_seconds(run, run.n_frames):.2f} s"
            )
    return Found(tuple(_link(data, run) for run in runs), tuple(warnings), next_file)


def _link(data: FileBytes, run: _Run) -> Link:
    _, layer, _, _ = run.kind
    if layer != 3:
        return Link(run.start, run.end, n_frames=run.n_frames * _samples(run.kind))
    stated = run.stated_frames
    if run.xing and stated is not None and abs(stated - run.n_frames) <= 1:
        return Link(run.start, run.end)
    first = data.at(run.first_frame, _HEADER_BYTES)
    prefix = _first_frame(first, run.n_frames, run.end - run.first_frame, run.lame)
    return Link(run.first_frame, run.end, prefix)


def _first_frame(header: bytes, n_frames: int, n_bytes: int, lame: bytes) -> bytes:
    """A frame without audio, of the kind of `header`, whose tag states the number of frames."""
    # Without a checksum and without padding.
    headers = (
        bytes((header[1] | 1, index << 4 | header[2] & 0x0C, header[3])) for index in range(1, 15)
    )
    parsed = ((head, _parse(head)) for head in headers)
    first, n_frame_bytes, kind = next(
        (b"\xff" + head, found.n_bytes, found.kind)
        for head, found in parsed
        if found is not None and found.n_bytes >= _TAG_MIN_BYTES
    )
    has_frames_and_bytes = 3
    tag = b"Xing" + struct.pack(">III", has_frames_and_bytes, n_frames, n_bytes + n_frame_bytes)
    offset = _tag_offsets(kind)[0]
    return (first + bytes(offset - len(first)) + tag + lame).ljust(n_frame_bytes, b"\0")


def _is_tag_frame(frame: bytes, kind: tuple[int, int, int, bool]) -> bool:
    xing, xing_with_checksum, vbri = (frame[o : o + 4] for o in _tag_offsets(kind))
    return not {xing, xing_with_checksum}.isdisjoint((b"Xing", b"Info")) or vbri == b"VBRI"


def _tag_offsets(kind: tuple[int, int, int, bool]) -> tuple[int, int, int]:
    """Where a tag stands in a frame: Xing or Info, the same after a checksum, VBRI."""
    version, _, _, is_mono = kind
    side_bytes = (17 if is_mono else 32) if version == 1 else (9 if is_mono else 17)
    return _HEADER_BYTES + side_bytes, _HEADER_BYTES + 2 + side_bytes, _HEADER_BYTES + 32


def _samples(kind: tuple[int, int, int, bool]) -> int:
    version, layer, _, _ = kind
    return {1: 384, 2: 1152, 3: 1152 if version == 1 else 576}[layer]


def _seconds(run: _Run, n_frames: int) -> float:
    return n_frames * _samples(run.kind) / run.kind[2]


def _frame_bytes(kind: tuple[int, int, int, bool]) -> int:
    """Most bytes of a frame."""
    version, layer, rate_hz, _ = kind
    bitrate = 1000 * _BITRATES[min(version, 2), layer][-1]
    return _samples(kind) // 8 * bitrate // rate_hz + 4
