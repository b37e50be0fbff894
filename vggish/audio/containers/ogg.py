"""Ogg files: chained streams, several streams at once, and missing pages (RFC 3533)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.layout import MAX_LINKS, Found, Link
from vggish.audio.containers.tags import FILE_STARTS, skip_tags
from vggish.common.wording import count

_MAGIC = b"OggS\0"  # with the version
_HEADER = struct.Struct("<5sBqIIIB")
_BEGINS, _ENDS = 0x02, 0x04
_AUDIO_STARTS = (b"\x01vorbis", b"OpusHead", b"\x7fFLAC", b"Speex   ", b"fLaC", b"PCM     ")


@dataclass(frozen=True)
class _Page:
    start: int
    end: int  # as the header states it
    flags: int
    serial: int
    number: int
    content: bytes  # the first bytes

    @property
    def begins_stream(self) -> bool:
        return bool(self.flags & _BEGINS)


@dataclass
class _Chain:
    """Streams that begin together."""

    start: int
    audio: set[int] = field(default_factory=set)  # serial numbers of the audio streams
    last_number: dict[int, int] = field(default_factory=dict)
    n_missing: int = 0
    has_end: bool = False
    has_data: bool = False

    def add(self, page: _Page) -> None:
        """Note a page."""
        if page.begins_stream:
            if page.content.startswith(_AUDIO_STARTS):
                self.audio.add(page.serial)
        else:
            self.has_data = True
        if page.serial not in self.audio:
            return
        expected = self.last_number.get(page.serial, page.number - 1) + 1
        self.n_missing += max(0, page.number - expected)
        self.last_number[page.serial] = page.number
        self.has_end = self.has_end or bool(page.flags & _ENDS)


def find_ogg(data: FileBytes, start: int) -> tuple[Found, int] | None:
    """The links of an Ogg file, and the number of audio streams at once in the first of them.

    None if no Ogg page is at `start`.
    """
    chains: list[_Chain] = []
    damaged = 0  # bytes
    position, next_file, last = start, None, None
    for page in _pages(data, start):
        damaged += page.start - position
        position, last = page.end, page
        if not chains or (page.begins_stream and chains[-1].has_data):
            if len(chains) == MAX_LINKS:
                next_file = position = page.start
                break
            chains.append(_Chain(page.start))
        chains[-1].add(page)
    if last is None:
        return None
    warnings = []
    if position > data.size:
        warnings.append("truncated: the last page of the Ogg stream is incomplete")
    elif not chains[-1].has_end and chains[-1].audio:
        warnings.append("truncated: the Ogg stream has no last page")
    rest = skip_tags(data, position)
    if data.at(rest, 4) in FILE_STARTS:
        next_file = rest
    elif not data.is_zero(rest, data.size):
        damaged += data.size - rest
    if damaged > _HEADER.size:
        warnings.append(f"damaged: {damaged:,} bytes are not Ogg pages; they were not decoded")
    if n_missing := sum(chain.n_missing for chain in chains):
        warnings.append(f"damaged: {count(n_missing, 'page')} of the Ogg stream missing")
    stop = data.size if next_file is None else next_file
    ends = [*(chain.start for chain in chains[1:]), stop]
    links = tuple(Link(chain.start, end) for chain, end in zip(chains, ends, strict=True))
    return Found(links, tuple(warnings), next_file), len(chains[0].audio)


def _pages(data: FileBytes, position: int) -> Iterator[_Page]:
    """The pages from a position on; bytes between pages are skipped."""
    while True:
        header = data.at(position, _HEADER.size)
        if len(header) < _HEADER.size:
            return
        magic, flags, _, serial, number, _, n_segments = _HEADER.unpack(header)
        if magic != _MAGIC:
            position = data.find(_MAGIC, position + 1)
            if position < 0:
                return
            continue
        body = position + _HEADER.size + n_segments
        end = body + sum(data.at(position + _HEADER.size, n_segments))
        content = data.at(body, 8) if flags & _BEGINS else b""
        yield _Page(position, end, flags, serial, number, content)
        position = end
