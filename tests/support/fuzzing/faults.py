"""What may be wrong with an audio file, and what must come out of it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tests.support.fuzzing.containers import (
    CHUNKED,
    CONTAINERS,
    ENCODED,
    HEADED,
    AudioFile,
    Build,
    Spec,
    encoded_file,
    plain_file,
)

PLACEHOLDERS_32 = (0, 0xFFFFFFFF, 0x7FFFFFFF, 0x7FFFF000, 0x7F000008, 0x80000000, 0xFFFFF000)
PLACEHOLDERS_64 = (0, -1, 0x7FFFFFFFFFFFFFFF)
ID3V1 = b"TAG" + b"t" * 125
ID3V2 = b"ID3\x04\0\0\0\0\0\x10" + b"x" * 16
NAMES = (b"LIST", b"JUNK", b"bext", b"id3 ", b"zzzz")


@dataclass(frozen=True)
class Fuzzed:
    """A file to decode.

    Attributes:
        seed: reproduces it.
        container, fault: its kind.
        data: its bytes.
        parts: the sounds that a careful decoder finds one after the other, float32 [n] each, with
            the rate and the tolerance of each; empty if nothing is promised.
        expects: "whole" (all audio, without a warning), "law" (all audio, or a warning, or an
            error), or "robust" (anything but a crash).
    """

    seed: int
    container: str
    fault: str
    data: bytes
    parts: tuple[AudioFile, ...]
    expects: str


def fuzzed(seed: int) -> Fuzzed:
    """The file of a seed."""
    rng = np.random.default_rng(seed)
    container = CONTAINERS[seed % len(CONTAINERS)]
    faults = [name for name, (kinds, _) in FAULTS.items() if container in kinds]
    fault = faults[int(rng.integers(len(faults)))]
    make = FAULTS[fault][1]
    data, parts, expects = make(rng, container, plain_file(rng, container))
    return Fuzzed(seed, container, fault, data, parts, expects)


Made = tuple[bytes, tuple[AudioFile, ...], str]
Make = Callable[[np.random.Generator, str, Build], Made]


def _chunks(rng: np.random.Generator) -> list[tuple[bytes, bytes]]:
    return [
        (NAMES[int(rng.integers(len(NAMES)))], rng.bytes(int(rng.integers(1, 200))))
        for _ in range(int(rng.integers(3)))
    ]


def _none(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    return file.data, (file,), "whole"


def _more_chunks(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec(before=_chunks(rng), after=_chunks(rng), omit_padding=bool(rng.integers(2))))
    return file.data, (file,), "whole"


def _outer_size(rng: np.random.Generator, container: str, build: Build) -> Made:
    sizes = (0, 36, 0x7FFFFFFF, 0xFFFFFFFF, int(rng.integers(1 << 31)))
    file = build(Spec(outer_bytes=int(rng.choice(sizes))))
    return file.data, (file,), "whole"


def _unknown_size(rng: np.random.Generator, container: str, build: Build) -> Made:
    wide = container in ("rf64", "bw64", "w64", "caf")
    size = int(rng.choice(PLACEHOLDERS_64 if wide else PLACEHOLDERS_32))
    if container in ("aiff", "aifc"):
        size = max(0, size - 8)
    file = build(Spec(stated_bytes=size))
    return file.data, (file,), "whole"


def _small_size(rng: np.random.Generator, container: str, build: Build) -> Made:
    whole = build(Spec())
    n_frames = whole.audio_bytes // whole.frame_bytes
    size = int(rng.integers(1, n_frames - 8)) * whole.frame_bytes
    return build(Spec(stated_bytes=size)).data, (whole,), "law"


def _large_size(rng: np.random.Generator, container: str, build: Build) -> Made:
    whole = build(Spec())
    size = whole.audio_bytes + int(rng.integers(2, 1 << 20)) * whole.frame_bytes
    return build(Spec(stated_bytes=size)).data, (whole,), "law"


def _padding(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    return file.data + bytes(int(rng.integers(1, 2_000))), (file,), "whole"


def _tags(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    before = ID3V2 if container in ("flac", "mp3") and rng.integers(2) else b""
    return before + file.data + ID3V1, (file,), "whole"


def _joined(rng: np.random.Generator, container: str, build: Build) -> Made:
    first = build(Spec())
    other = container if container in ENCODED else str(rng.choice((*CHUNKED, *ENCODED)))
    second = plain_file(rng, other)(Spec())
    between = ID3V2 if other == "mp3" and rng.integers(2) else b""
    return first.data + between + second.data, (first, second), "whole"


def _junk(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    return file.data + rng.bytes(int(rng.integers(64, 3_000))), (file,), "law"


def _truncated(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    size = int(rng.integers(1, len(file.data)))
    if container in ENCODED:
        return file.data[:size], (), "robust"
    n_frames = max(0, size - file.audio_start) // file.frame_bytes
    return file.data[:size], (replace(file, sound=file.sound[:n_frames]),), "law"


def _flipped(rng: np.random.Generator, container: str, build: Build) -> Made:
    data = bytearray(build(Spec(before=_chunks(rng), after=_chunks(rng))).data)
    n_bytes = len(data) if rng.integers(2) else min(len(data), 200)
    for _ in range(int(rng.integers(1, 8))):
        data[int(rng.integers(n_bytes))] = int(rng.integers(256))
    return bytes(data), (), "robust"


def _mixed(rng: np.random.Generator, container: str, build: Build) -> Made:
    pieces = [plain_file(rng, str(rng.choice(CONTAINERS)))(Spec()).data for _ in range(3)]
    cuts = [piece[int(rng.integers(len(piece))) :] for piece in pieces]
    return build(Spec()).data[: int(rng.integers(4, 400))] + b"".join(cuts), (), "robust"


def _flac_total(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    fields = int.from_bytes(file.data[18:26], "big") >> 36 << 36
    total = int(rng.choice((0, 1, len(file.sound) // 2, len(file.sound) - 1)))
    data = file.data[:18] + (fields | total).to_bytes(8, "big") + file.data[26:]
    return data, (file,), "whole"


def _mp3_count(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    place = max(file.data.find(b"Xing"), file.data.find(b"Info")) + 8
    count = int.from_bytes(file.data[place : place + 4], "big")
    count = int(rng.choice((0, 1, count // 2, count - 2)))
    data = file.data[:place] + struct.pack(">I", count) + file.data[place + 4 :]
    return data, (file,), "whole"


def _mp3_damage(rng: np.random.Generator, container: str, build: Build) -> Made:
    first, second = build(Spec()), encoded_file("mp3", int(rng.integers(12)))
    junk = bytes(rng.integers(0, 250, int(rng.integers(2_000, 6_000)), np.uint8))
    return first.data + junk + second.data, (first, second), "law"


def _ogg_chain(rng: np.random.Generator, container: str, build: Build) -> Made:
    files = [build(Spec())]
    names = ("vorbis", "opus")
    files += [
        encoded_file(str(rng.choice(names)), int(rng.integers(12)))
        for _ in range(int(rng.integers(1, 4)))
    ]
    return b"".join(file.data for file in files), tuple(files), "whole"


def _ogg_damage(rng: np.random.Generator, container: str, build: Build) -> Made:
    file = build(Spec())
    place = int(rng.integers(len(file.data)))
    cut = int(rng.integers(1, 2_000))
    return file.data[:place] + file.data[place + cut :], (), "robust"


OGG = ("vorbis", "opus")
FAULTS: dict[str, tuple[tuple[str, ...], Make]] = {
    "none": (CONTAINERS, _none),
    "further chunks": (CHUNKED, _more_chunks),
    "wrong size of the file": (CHUNKED, _outer_size),
    "size never written": ((*CHUNKED, *HEADED), _unknown_size),
    "size too small": ((*CHUNKED, *HEADED), _small_size),
    "size too large": ((*CHUNKED, *HEADED), _large_size),
    "padded with zeros": ((*CHUNKED, *HEADED, "mp3", "flac"), _padding),
    "tags": ((*CHUNKED, *HEADED, "mp3", "flac"), _tags),
    "joined files": ((*CHUNKED, *HEADED, "mp3", "flac"), _joined),
    "junk at the end": (CONTAINERS, _junk),
    "truncated": (CONTAINERS, _truncated),
    "flipped bytes": (CONTAINERS, _flipped),
    "pieces of files": (CONTAINERS, _mixed),
    "wrong number of samples": (("flac",), _flac_total),
    "wrong number of frames": (("mp3",), _mp3_count),
    "damage between frames": (("mp3",), _mp3_damage),
    "chained streams": (OGG, _ogg_chain),
    "missing bytes": (OGG, _ogg_damage),
}
