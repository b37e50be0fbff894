"""Tags that stand before, between and after the audio: ID3, APE and Lyrics3; and magic numbers."""

from __future__ import annotations

from vggish.audio.containers.bytes import FileBytes

# Of the formats of which files are joined.
FILE_STARTS = (
    *(b"RIFF", b"RIFX", b"RF64", b"BW64", b"riff", b"FORM", b"caff", b".snd", b"dns."),
    *(b"fLaC", b"OggS"),
)
_ID3_HEADER_BYTES = 10
_ID3V1_BYTES = 128
_APE_FOOTER_BYTES = 32


def skip_id3(data: FileBytes, position: int) -> int:
    """Position after the ID3v2 tags that begin at `position`."""
    while True:
        header = data.at(position, _ID3_HEADER_BYTES)
        if len(header) < _ID3_HEADER_BYTES or header[:3] != b"ID3" or max(header[6:]) > 0x7F:
            return position
        size = sum(byte << 7 * place for place, byte in enumerate(header[:5:-1]))
        has_footer = bool(header[5] & 0x10)
        position += _ID3_HEADER_BYTES * (1 + has_footer) + size


def skip_tags(data: FileBytes, position: int) -> int:
    """Position after all tags that begin at `position`."""
    while True:
        start, position = position, skip_id3(data, position)
        header = data.at(position, _APE_FOOTER_BYTES)
        if header[:3] == b"TAG":
            position += _ID3V1_BYTES
        elif header[:8] == b"APETAGEX" and len(header) == _APE_FOOTER_BYTES:
            position += _APE_FOOTER_BYTES + int.from_bytes(header[12:16], "little")
        elif header[:11] == b"LYRICSBEGIN":
            found = data.find(b"LYRICS200", position)
            position = found + 9 if found >= 0 else position
        if position == start:
            return position


def end_of_audio(data: FileBytes, start: int) -> int:
    """Position before the tags at the end of the file."""
    end = data.size
    while True:
        if data.at(end - _ID3V1_BYTES, 3) == b"TAG":
            size = _ID3V1_BYTES
        elif (footer := data.at(end - _APE_FOOTER_BYTES, 24))[:8] == b"APETAGEX":
            has_header = bool(footer[23] & 0x80)
            size = int.from_bytes(footer[12:16], "little") + _APE_FOOTER_BYTES * has_header
        elif data.at(end - 9, 9) == b"LYRICS200" and data.at(end - 15, 6).isdigit():
            size = int(data.at(end - 15, 6)) + 15
        else:
            return end
        if size <= 0 or end - size < start:
            return end
        end -= size
