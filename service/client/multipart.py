"""What the client sends: sounds as a multipart body, read piece by piece while they are sent.

Memory does not grow with the size of a sound. What can be rewound is sent again when a try
fails; a pipe cannot.
"""

from __future__ import annotations

import io
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

from vggish.common.wording import as_text
from vggish.errors import AudioError, OptionError

Source = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO

CHUNK_BYTES = 1 << 18

# As browsers write the name of a file, so that it cannot end its quotes or its line.
_QUOTED = {ord('"'): "%22", ord("\r"): "%0D", ord("\n"): "%0A", 0: "%00"}


@dataclass
class Sound:
    """A sound that is ready to be sent. Made by `open_sound`.

    Attributes:
        name: what to call it in messages.
        file: read from where it stood when it was opened.
        start: where that was; None if the file cannot be rewound.
        size: in bytes from there; None if that is not known before the end.
        is_ours: whether to close the file.
    """

    name: str
    file: BinaryIO
    start: int | None
    size: int | None
    is_ours: bool

    @property
    def file_name(self) -> str:
        """What the service gets to know of the name: no directories."""
        return as_text(PurePath(self.name).name)

    def rewind(self) -> None:
        """Go back to the beginning; `start` must not be None."""
        if self.start is not None:
            with self._unreadable():
                self.file.seek(self.start)

    def read(self, n_bytes: int) -> bytes:
        """At most so many bytes; none at the end.

        Raises:
            AudioError: the file cannot be read.
        """
        with self._unreadable():
            data: object = self.file.read(n_bytes)
        if not isinstance(data, bytes):
            raise AudioError(f"cannot read {self.name}: it is not opened in binary mode")
        return data

    def close(self) -> None:
        """Close the file if it was opened here."""
        if self.is_ours:
            self.file.close()

    @contextmanager
    def _unreadable(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise AudioError(f"cannot read {self.name}: {reason}") from error


def open_sound(source: Source, name: str | None = None) -> Sound:
    """Open a sound in order to send it.

    Args:
        source: a path, `-` for standard input, the bytes of a file, or a binary file object
            (read from where it stands; left open).
        name: what to call it; the path by default.

    Raises:
        OptionError: the source is of another type.
        AudioError: it cannot be opened, or is a directory.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        file: BinaryIO = io.BytesIO(source)
        return Sound(name or "audio bytes", file, 0, memoryview(source).nbytes, True)
    if isinstance(source, (str, os.PathLike)):
        if os.fspath(source) == "-":
            if sys.stdin is None:
                raise AudioError("cannot read standard input: it is closed")
            return _standing(sys.stdin.buffer, name or "standard input", is_ours=False)
        return _open_path(os.fspath(source), name)
    if not hasattr(source, "read"):
        raise OptionError(
            "a sound must be a path, the bytes of a file, or a binary file object. "
            f"Received: {type(source).__name__}"
        )
    given = getattr(source, "name", None)
    return _standing(
        source, name or (given if isinstance(given, str) else "audio bytes"), is_ours=False
    )


def _open_path(path: str, name: str | None) -> Sound:
    shown = name or path
    try:
        file = open(path, "rb")  # noqa: SIM115 closed with its `Sound`
    except (OSError, ValueError) as error:
        if isinstance(error, IsADirectoryError):
            raise AudioError(f"{shown} is a directory, not a sound file") from error
        reason = getattr(error, "strerror", None) or str(error)
        raise AudioError(f"cannot open {shown}: {reason}") from error
    return _standing(file, shown, is_ours=True)


def _standing(file: BinaryIO, name: str, *, is_ours: bool) -> Sound:
    """A file as it stands, with what is left of it if that can be known."""
    start, size = None, None
    try:
        if file.seekable():
            start = file.tell()
            size = max(0, file.seek(0, os.SEEK_END) - start)
            file.seek(start)
    except (OSError, ValueError, AttributeError):
        start, size = None, None
    return Sound(name, file, start, size, is_ours)


class Upload:
    """Sounds as the body of a request, multipart/form-data.

    Args:
        field: name of the form's field that each is sent in.
        sounds: what to send; closed by `close`.
    """

    def __init__(self, field: str, sounds: Sequence[Sound]) -> None:
        self.sounds = sounds
        self._boundary = secrets.token_hex(16)
        self._heads = [self._head(field, sound) for sound in sounds]
        self._end = f"--{self._boundary}--\r\n".encode()

    @property
    def headers(self) -> dict[str, str]:
        """Type and, where it is known, length of the body."""
        headers = {"Content-Type": f"multipart/form-data; boundary={self._boundary}"}
        sizes = [sound.size for sound in self.sounds]
        known = [size for size in sizes if size is not None]
        if len(known) == len(sizes):
            around = sum(len(head) + 2 for head in self._heads) + len(self._end)
            headers["Content-Length"] = str(sum(known) + around)
        return headers

    @property
    def stuck(self) -> str:
        """Name of a sound that cannot be sent a second time, "" if all can."""
        return next((sound.name for sound in self.sounds if sound.start is None), "")

    def chunks(self) -> Iterator[bytes]:
        """The body, from its beginning.

        Raises:
            AudioError: a sound cannot be read, or got shorter since it was opened.
        """
        for head, sound in zip(self._heads, self.sounds, strict=True):
            sound.rewind()
            yield head
            left = sound.size
            while data := sound.read(CHUNK_BYTES if left is None else min(CHUNK_BYTES, left)):
                yield data
                left = None if left is None else left - len(data)
            if left:
                raise AudioError(f"{sound.name} became shorter while it was sent")
            yield b"\r\n"
        yield self._end

    async def chunks_async(self) -> AsyncIterator[bytes]:
        """As `chunks`; files are read in threads, so that nothing else waits for a disk."""
        from anyio.to_thread import run_sync

        chunks = self.chunks()
        while (chunk := await run_sync(next, chunks, None)) is not None:
            yield chunk

    def close(self) -> None:
        """Close the files that were opened for this."""
        for sound in self.sounds:
            sound.close()

    def _head(self, field: str, sound: Sound) -> bytes:
        file_name = sound.file_name.translate(_QUOTED) or "sound"
        return (
            f"--{self._boundary}\r\n"
            f'Content-Disposition: form-data; name="{field}"; filename="{file_name}"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode()
