"""The headers of RIFF, RF64, W64, AIFF, CAF and AU files, read, and written with a true size."""

from __future__ import annotations

import struct
from dataclasses import replace

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.chunks import Chunk, ChunkStyle, Container, find_chunks

_UINT32_MAX = 0xFFFF_FFFF
_MAX_HEADER_BYTES = 1 << 16  # of a chunk that is copied

_W64_ENDING = bytes.fromhex("f3acd3118cd100c04f8edb8a")
_W64_RIFF = b"riff" + bytes.fromhex("2e91cf11a5d628db04c10000")
_RIFF = ChunkStyle(b"data", struct.Struct("<I"))
_RIFX = ChunkStyle(b"data", struct.Struct(">I"))
_W64 = ChunkStyle(b"data" + _W64_ENDING, struct.Struct("<q"), 8, _W64_ENDING, counts_header=True)
_AIFF = ChunkStyle(b"SSND", struct.Struct(">I"))
_CAF = ChunkStyle(b"data", struct.Struct(">q"), alignment=1)
_AU = ChunkStyle(b"", struct.Struct(">I"), 1, id_ending=b"no chunks in AU")

# Bits per sample by AIFF-C compression type, where the type determines them.
_AIFC_BITS = {
    **dict.fromkeys((b"fl32", b"FL32", b"in32", b"ni32", b"23ni"), 32),
    **dict.fromkeys((b"fl64", b"FL64"), 64),
    **dict.fromkeys((b"ulaw", b"ULAW", b"alaw", b"ALAW"), 8),
    b"in24": 24,
    b"42ni": 24,
}
_AIFC_PCM = (b"NONE", b"none", b"twos", b"sowt", b"raw ")
_WAV_MPEG_FORMATS = (0x50, 0x55)
_CAF_CODECS = (b"lpcm", b"ulaw", b"alaw", b"ima4")


def read_container(data: FileBytes, start: int) -> Container | None:
    """The container that begins at a byte; None for others, and for those without audio."""
    magic = data.at(start, 12)
    if magic[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and magic[8:12] == b"WAVE":
        return _riff(data, start, magic[:4])
    if magic[:12] == _W64_RIFF[:12]:
        return _w64(data, start)
    if magic[:4] == b"FORM" and magic[8:12] in (b"AIFF", b"AIFC"):
        return _aiff(data, start, magic[8:12])
    if magic[:4] == b"caff":
        return _caf(data, start)
    if magic[:4] in (b".snd", b"dns."):
        return _au(data, start, ">" if magic[:4] == b".snd" else "<")
    return None


def _riff(data: FileBytes, start: int, magic: bytes) -> Container | None:
    style = _RIFX if magic == b"RIFX" else _RIFF
    found = find_chunks(style, data, start + 12, frozenset((b"fmt ", b"ds64")))
    if found is None or b"fmt " not in found[0]:
        return None
    chunks, audio = found
    format_chunk = _contents(data, chunks[b"fmt "])
    if len(format_chunk) < 16:
        return None
    if magic in (b"RF64", b"BW64") and audio.size == _UINT32_MAX:
        sizes = _contents(data, chunks[b"ds64"]) if b"ds64" in chunks else b""
        size = struct.unpack_from("<Q", sizes, 8)[0] if len(sizes) >= 16 else 0
        audio = Chunk(audio.id, audio.start, size)
    order = ">" if magic == b"RIFX" else "<"
    name = "RF64" if magic in (b"RF64", b"BW64") else "WAV"
    container = _wav_container(style, audio, format_chunk, order, name)
    # libsndfile does not know BW64, and fails on some chunks of RF64.
    return replace(container, is_readable=name == "WAV")


def _w64(data: FileBytes, start: int) -> Container | None:
    format_id = b"fmt " + _W64_ENDING
    found = find_chunks(_W64, data, start + 40, frozenset((format_id,)))
    if found is None or format_id not in found[0]:
        return None
    format_chunk = _contents(data, found[0][format_id])
    if len(format_chunk) < 16:
        return None
    # libsndfile takes the chunks after the audio of a W64 file for audio.
    return replace(_wav_container(_W64, found[1], format_chunk, "<", "W64"), is_readable=False)


def _wav_container(
    style: ChunkStyle, audio: Chunk, format_chunk: bytes, order: str, name: str
) -> Container:
    """A container whose audio is described by the format chunk of WAV."""
    format_code, n_channels, rate_hz, bytes_per_second, block_bytes, bits = struct.unpack_from(
        order + "HHIIHH", format_chunk
    )
    # Only formats with blocks of one sample have their rate in bytes from the other fields.
    is_pcm = block_bytes == n_channels * (bits + 7) // 8
    rate = block_bytes * rate_hz if is_pcm else bytes_per_second

    def make_header(n_bytes: int) -> bytes:
        return _wav_header(format_chunk, n_bytes, order)

    is_mpeg = format_code in _WAV_MPEG_FORMATS
    return Container(style, audio, make_header, name, rate, holds_mpeg=is_mpeg)


def _wav_header(format_chunk: bytes, n_bytes: int, order: str) -> bytes:
    size = struct.Struct(order + "I")
    described = b"fmt " + size.pack(len(format_chunk)) + format_chunk + bytes(len(format_chunk) % 2)
    riff_bytes = 4 + len(described) + 8 + n_bytes
    if riff_bytes <= _UINT32_MAX or order == ">":
        magic = b"RIFX" if order == ">" else b"RIFF"
        sizes = size.pack(min(riff_bytes, _UINT32_MAX)), size.pack(min(n_bytes, _UINT32_MAX))
        return magic + sizes[0] + b"WAVE" + described + b"data" + sizes[1]
    wide_sizes = struct.pack("<IQQQI", 28, riff_bytes + 36, n_bytes, 0, 0)
    unknown = size.pack(_UINT32_MAX)
    head = b"RF64" + unknown + b"WAVEds64" + wide_sizes
    return head + described + b"data" + unknown


def _aiff(data: FileBytes, start: int, kind: bytes) -> Container | None:
    found = find_chunks(_AIFF, data, start + 12, frozenset((b"COMM",)))
    if found is None or b"COMM" not in found[0]:
        return None
    common = _contents(data, found[0][b"COMM"])
    if len(common) < (22 if kind == b"AIFC" else 18):
        return None
    n_channels, _, bits, exponent, mantissa = struct.unpack_from(">HIHHQ", common)
    codec = common[18:22] if kind == b"AIFC" else b"NONE"
    bits = _AIFC_BITS.get(codec, bits if codec in _AIFC_PCM else 0)
    frame_bytes = n_channels * ((bits + 7) // 8)
    if frame_bytes == 0:
        return None
    chunk = found[1]
    (offset,) = struct.unpack(">I", data.at(chunk.start, 4).ljust(4, b"\0"))
    audio = Chunk(chunk.id, chunk.start + 8 + offset, chunk.size and chunk.size - 8 - offset)
    # A float of 80 bits; only messages use it.
    rate_hz = float(mantissa) * 2.0 ** (min(exponent & 0x7FFF, 16383 + 63) - 16383 - 63)

    def make_header(n_bytes: int) -> bytes:
        frames = struct.pack(">I", min(n_bytes // frame_bytes, _UINT32_MAX))
        described = common[:2] + frames + common[6:]
        described += bytes(len(described) % 2)
        described = b"COMM" + struct.pack(">I", len(described)) + described
        size = min(n_bytes + 8, _UINT32_MAX)
        form_bytes = min(4 + len(described) + 8 + size, _UINT32_MAX)
        head = b"FORM" + struct.pack(">I", form_bytes) + kind + described
        return head + b"SSND" + struct.pack(">III", size, 0, 0)

    return Container(_AIFF, audio, make_header, "AIFF", frame_bytes * rate_hz)


def _caf(data: FileBytes, start: int) -> Container | None:
    found = find_chunks(_CAF, data, start + 8, frozenset((b"desc",)))
    if found is None or b"desc" not in found[0]:
        return None
    described = _contents(data, found[0][b"desc"])
    if len(described) < 32 or described[8:12] not in _CAF_CODECS:
        return None
    (rate_hz,) = struct.unpack_from(">d", described)
    packet_bytes, packet_frames = struct.unpack_from(">II", described, 16)
    chunk, file_header = found[1], data.at(start, 8)
    edit_count = 4
    size = chunk.size - edit_count if chunk.size > 0 else chunk.size
    audio = Chunk(chunk.id, chunk.start + edit_count, size)

    def make_header(n_bytes: int) -> bytes:
        head = file_header + b"desc" + struct.pack(">q", len(described)) + described
        return head + b"data" + struct.pack(">qI", n_bytes + edit_count, 0)

    rate = packet_bytes * rate_hz / packet_frames if packet_frames else 0.0
    return Container(_CAF, audio, make_header, "CAF", rate)


def _au(data: FileBytes, start: int, order: str) -> Container | None:
    header = data.at(start, 24)
    if len(header) < 24:
        return None
    offset, size = struct.unpack_from(order + "II", header, 4)

    def make_header(n_bytes: int) -> bytes:
        del n_bytes  # a size that is not stated extends to the end
        sizes = struct.pack(order + "II", len(header), _UINT32_MAX)
        return header[:4] + sizes + header[12:]

    return Container(_AU, Chunk(b"", start + offset, size), make_header, "AU", 0.0)


def _contents(data: FileBytes, chunk: Chunk) -> bytes:
    return data.at(chunk.start, min(chunk.size, _MAX_HEADER_BYTES))
