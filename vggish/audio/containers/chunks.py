"""The chunks of RIFF, RF64, W64, AIFF and CAF files, and where their audio really ends."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.layout import Found, Link
from vggish.audio.containers.mpeg import begins_with_frames
from vggish.audio.containers.tags import FILE_STARTS, skip_tags

# Files with more chunks than this before their audio are left to the decoder.
_MAX_CHUNKS = 10_000
# Some recorders fill the last block of the disk with zeros.
_MAX_PADDING_BYTES = 1 << 16
# Metadata that a writer appends after the audio; the file may have been cut in the middle of it.
_METADATA = frozenset(
    {
        *(b"LIST", b"list", b"id3 ", b"ID3 ", b"bext", b"iXML", b"axml", b"chna", b"cue ", b"smpl"),
        *(b"inst", b"PEAK", b"JUNK", b"junk", b"PAD ", b"FLLR", b"afsp", b"acid", b"_PMX", b"DISP"),
        *(b"ANNO", b"NAME", b"AUTH", b"(c) ", b"APPL", b"MARK", b"COMT", b"INST", b"info", b"free"),
    }
)


@dataclass(frozen=True)
class Chunk:
    """A chunk: its id, and the bytes that it states to hold."""

    id: bytes
    start: int  # of its contents
    size: int  # of its contents

    @property
    def end(self) -> int:
        """Byte after the contents."""
        return self.start + self.size


@dataclass(frozen=True)
class ChunkStyle:
    """How a container writes the headers of its chunks."""

    audio_id: bytes
    size_field: struct.Struct
    alignment: int = 2
    id_ending: bytes = b""  # of ids that are GUIDs; others are four printable characters
    counts_header: bool = False  # in the size

    def chunk(self, data: FileBytes, position: int) -> Chunk | None:
        """The chunk at a position; None if no chunk header is there."""
        id_bytes = 4 + len(self.id_ending)
        n_bytes = id_bytes + self.size_field.size
        header = data.at(position, n_bytes)
        if len(header) < n_bytes:
            return None
        name = header[:id_bytes]
        if name[4:] != self.id_ending or not all(0x20 <= byte < 0x7F for byte in name[:4]):
            return None
        (size,) = self.size_field.unpack_from(header, id_bytes)
        return Chunk(name, position + n_bytes, size - (n_bytes if self.counts_header else 0))

    def positions_after(self, chunk: Chunk) -> tuple[int, ...]:
        """Where the next chunk may begin: some writers omit the padding."""
        padded = chunk.end + -chunk.size % self.alignment
        return (padded, chunk.end) if padded != chunk.end else (padded,)


@dataclass(frozen=True)
class Container:
    """A file of chunks up to its audio."""

    style: ChunkStyle
    audio: Chunk
    make_header: Callable[[int], bytes]  # for a number of bytes of audio
    format_name: str
    bytes_per_second: float  # of audio; 0 if unknown
    is_readable: bool = True  # by libsndfile, as it is
    holds_mpeg: bool = False  # frames, of which the header does not state the number


def find_chunks(
    style: ChunkStyle, data: FileBytes, position: int, wanted: frozenset[bytes]
) -> tuple[Mapping[bytes, Chunk], Chunk] | None:
    """The wanted chunks before the audio, and the chunk of the audio; None without audio."""
    found: dict[bytes, Chunk] = {}
    for _ in range(_MAX_CHUNKS):
        chunk = style.chunk(data, position)
        if chunk is None:
            return None
        if chunk.id == style.audio_id:
            return found, chunk
        if chunk.size < 0:
            return None
        if chunk.id in wanted:
            found.setdefault(chunk.id, chunk)
        following = [p for p in style.positions_after(chunk) if style.chunk(data, p) is not None]
        if not following:
            return None
        position = following[0]
    return None


def is_placeholder(n_bytes: int) -> bool:
    """Whether a stated size was written before the true one was known.

    Writers that cannot seek back leave 0, -1, or a number just under or over 2^31, 2^32, or
    another large round one: SoX 0x7FFFF000 in WAV and 0x7F000008 in AIFF.
    """
    to_round_number = min(n_bytes % (1 << 24), -n_bytes % (1 << 24))
    return n_bytes <= 0 or n_bytes >= 1 << 61 or (n_bytes >= 1 << 30 and to_round_number <= 1 << 13)


def settle(container: Container, data: FileBytes, start: int, end: int) -> Found:
    """Compare the stated size of the audio with what the file holds from `start` to `end`."""
    audio, style = container.audio, container.style
    held, stated = end - audio.start, audio.size
    if not is_placeholder(stated) and stated >= held:
        if stated - held <= 1:
            return Found((_link(container, audio.start, end, start),))
        warning = (
            f"truncated: the header states {stated} bytes of audio, the file holds {max(0, held)}"
        )
        return Found((_link(container, audio.start, end),), (warning,))
    wrapped: list[int] = []
    if style.size_field.size == 4:
        # A size of 32 bits wraps around.
        wrapped += range((max(0, stated) & 0xFFFFFFFF) + (1 << 32), held + 1, 1 << 32)
    if wrapped and held - wrapped[-1] <= 1:
        return Found((_link(container, audio.start, end),))
    may_be_zero = not is_placeholder(stated)
    for size in ([stated] if stated < held else []) + wrapped:
        chunk = Chunk(audio.id, audio.start, max(0, size))
        after = _after(style, data, chunk, end, may_be_zero=may_be_zero)
        if after is not None:
            return _with_further_audio(container, chunk.size, after, start, end)
    link = _link(container, audio.start, end)
    if is_placeholder(stated):
        return Found((link,))
    return Found((link,), (_too_little(container, stated, held),))


def _link(container: Container, start: int, end: int, file_start: int | None = None) -> Link:
    """Audio from `start` to `end`; from `file_start` if the header is right and readable."""
    if file_start is not None and container.is_readable:
        return Link(file_start, end)
    n_bytes = max(0, end - start)
    header = container.make_header(n_bytes)
    return Link(start, start + n_bytes, header, format_name=container.format_name)


def _too_little(container: Container, stated: int, held: int) -> str:
    def duration(n_bytes: int) -> str:
        rate = container.bytes_per_second
        return f" ({n_bytes / rate:.2f} s)" if rate else ""

    return (
        f"the header states {stated:,} bytes of audio{duration(stated)}, but "
        f"{held - stated:,} more{duration(held - stated)} follow, which are no chunks; they were "
        "decoded as audio too. If they are not audio, cut the file"
    )


def _with_further_audio(
    container: Container, size: int, after: _After, start: int, end: int
) -> Found:
    """The audio chunk with a size that fits, the audio chunks after it, and a further file."""
    audio = container.audio
    stop = end if after.next_file is None else after.next_file
    warnings: tuple[str, ...] = ()
    if after.n_zeros > _MAX_PADDING_BYTES:
        warnings = (
            f"{after.n_zeros:,} zero bytes follow after the audio that the header states; they "
            "were left out",
        )
    if not after.audio and size == audio.size and container.is_readable:
        return Found((Link(start, stop),), warnings, after.next_file)
    links = [_link(container, audio.start, audio.start + size)] if size else []
    links += [_link(container, chunk.start, min(chunk.end, stop)) for chunk in after.audio]
    return Found(tuple(links), warnings, after.next_file)


@dataclass(frozen=True)
class _After:
    """What follows after the audio: further chunks of audio, and a further file."""

    audio: tuple[Chunk, ...] = ()
    next_file: int | None = None
    n_zeros: int = 0


def _after(
    style: ChunkStyle, data: FileBytes, chunk: Chunk, end: int, *, may_be_zero: bool
) -> _After | None:
    """What follows after a chunk; None if it is neither chunks nor tags nor padding."""
    audio: list[Chunk] = []
    for _ in range(_MAX_CHUNKS):
        for position in style.positions_after(chunk):
            untagged = skip_tags(data, position)
            if end - untagged < style.size_field.size + 4:
                return _After(tuple(audio))
            if data.at(untagged, 4) in FILE_STARTS or begins_with_frames(data, untagged):
                return _After(tuple(audio), untagged)
            if may_be_zero and data.is_zero(untagged, end):
                return _After(tuple(audio), n_zeros=end - untagged)
            following = style.chunk(data, position)
            if following is None or following.size < 0:
                continue
            if following.end - end <= 1 or following.id[:4] in _METADATA:
                break
        else:
            return None
        if following.end > end:
            return _After(tuple(audio))
        chunk, may_be_zero = following, True
        if chunk.id == style.audio_id:
            audio.append(chunk)
    return None
