"""Request bodies: received in pieces and within limits, as multipart forms or as plain audio.

Starlette's own form parser is not used: it writes files without a limit on their size, and to
unnamed temporary files, which the decoders could not open.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.api.content_coding import BodyDecoder
from service.engine.service import Service
from service.engine.storage import SPOOL_BYTES, Upload
from service.problems import Problem

# Of bodies that are audio, or a video with audio; a form may hold the same.
AUDIO_TYPES = ("audio/*", "video/*", "application/octet-stream", "application/ogg")
_AUDIO_TYPE = re.compile("|".join(name.replace("*", ".+") for name in AUDIO_TYPES))
BINARY = {"type": "string", "format": "binary"}  # OpenAPI schema of a file
_MULTIPART = "multipart/form-data"
# Limits of all other fields together, which stay in memory.
_MAX_FIELDS, _MAX_FIELD_BYTES = 1000, 64 << 10
_OVERHEAD_BYTES = 1 << 20  # of a multipart body besides its files


@dataclass
class Form:
    """The clips of a body, and the names and values of its other fields, in order."""

    uploads: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def remove(self) -> None:
        """Remove the clips."""
        for upload in self.uploads:
            upload.remove()


async def receive(request: Request, service: Service, *, max_files: int = 1) -> Form:
    """Receive the body of a request. The caller must `remove` the form.

    Raises Problem for an invalid or slow body or a full disk, and ClientDisconnect.
    """
    receiver = _Receiver(request, service, max_files)
    try:
        await receiver.run()
    except BaseException:
        # In a thread, so that a slow disk does not block the event loop.
        await asyncio.shield(asyncio.to_thread(receiver.form.remove))
        raise
    return receiver.form


class _Receiver:
    """Receives the body of one request; also the state of the multipart parser's callbacks."""

    def __init__(self, request: Request, service: Service, max_files: int) -> None:
        self.form = Form()
        self._request = request
        self._storage, self._config = service.storage, service.config
        self._max_files = max_files
        self._max_bytes = int(service.config.max_upload_bytes)
        self._n_field_bytes = self._n_audio_bytes = 0
        self._is_complete = False
        self._begin()

    async def run(self) -> None:
        kind, parameters = parse_options_header(self._request.headers.get("content-type"))
        content_type = kind.decode("latin-1").lower()
        text = self._request.headers.get("content-length", "0")
        length = int(text) if text.isascii() and text.isdigit() else math.inf
        if length > self._max_bytes + _OVERHEAD_BYTES:
            raise self._too_large()
        if content_type == _MULTIPART:
            await self._receive_multipart(parameters.get(b"boundary", b""))
        elif _AUDIO_TYPE.fullmatch(content_type):
            self.form.uploads.append(self._storage.new_file(None))
            await self._read(self.form.uploads[0].add, self._max_bytes)
        else:
            raise _unsupported(content_type)
        if not self.form.uploads:
            raise Problem("bad-request", "the form has no audio: send it in the field 'file'")

    async def _receive_multipart(self, boundary: bytes) -> None:
        if not 0 < len(boundary) <= 256:
            raise Problem("bad-request", "the content type multipart/form-data has no boundary")
        callbacks: Any = {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }
        parser = MultipartParser(boundary, callbacks)
        try:
            await self._read(parser.write, self._max_bytes + _OVERHEAD_BYTES)
            parser.finalize()
        except FormParserError as error:
            raise Problem("bad-request", f"the form is malformed: {error}") from error
        if not self._is_complete:
            raise Problem("bad-request", "the form is incomplete: the final boundary is missing")

    def _begin(self) -> None:
        self._headers: dict[bytes, bytes] = {}
        self._header_name, self._header_value = b"", b""
        self._field: str | None = None
        self._text = b""
        self._upload: Upload | None = None

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._header_name.lower()] = self._header_value
        self._header_name, self._header_value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise Problem("bad-request", "a part of the form has no name")
        name = options[b"name"].decode("utf-8", "replace")
        file_name = options.get(b"filename")
        if name not in ("file", "files"):  # each is accepted for the other
            if file_name is None:
                self._field = name
                return
            detail = f"the audio belongs in the field 'file'. Received: {name[:64]!r}"
            raise Problem("bad-request", detail)
        if len(self.form.uploads) == self._max_files:
            most = f"at most {self._max_files} clips in a request"
            if self._max_files == 1:
                most = "only one clip in a request; POST /classify/batch accepts several"
            raise Problem("bad-request", most)
        name_text = None if file_name is None else file_name.decode("utf-8", "replace")
        self._upload = self._storage.new_file(name_text)
        self.form.uploads.append(self._upload)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._upload is not None:
            self._n_audio_bytes += end - start
            if self._n_audio_bytes > self._max_bytes:
                raise self._too_large()
            self._upload.add(data[start:end])
            return
        self._text += data[start:end]
        self._n_field_bytes += end - start
        if self._n_field_bytes > _MAX_FIELD_BYTES:
            raise Problem("bad-request", "the fields of the form are larger than 64 KiB in total")

    def _on_part_end(self) -> None:
        if self._field is not None:
            self.form.fields.append((self._field, self._text.decode("utf-8", "replace")))
        if len(self.form.fields) > _MAX_FIELDS:
            raise Problem("bad-request", f"the form has more than {_MAX_FIELDS} fields")

    def _on_end(self) -> None:
        self._is_complete = True

    async def _read(self, write: Callable[[bytes], object], limit: int) -> None:
        """Pass the body to `write` in pieces, within the limits of size and time."""
        n_bytes = 0
        decoder = BodyDecoder(self._request.headers.get("content-encoding", ""))
        clock = asyncio.get_running_loop().time
        idle, total = self._config.upload_idle_seconds, self._config.upload_timeout_seconds
        end = clock() + total
        try:
            # One scope for all pieces: a new one for each costs more than reading it.
            with anyio.fail_after(min(idle, total)) as scope:
                async for coded in self._request.stream():
                    for piece in decoder.feed(coded):
                        n_bytes += len(piece)
                        if n_bytes > limit:
                            raise self._too_large()
                        write(piece)
                        if self._bytes_in_memory() >= SPOOL_BYTES:
                            scope.deadline = math.inf  # a slow disk is not the client's fault
                            await self._flush()
                    scope.deadline = min(clock() + idle, end)
                decoder.finish()
        except TimeoutError as error:
            raise Problem(
                "upload-timeout",
                f"nothing arrived for {idle:g} s, or the upload took more than {total:g} s; "
                "send it again, or a smaller one",
                headers={"Connection": "close"},
            ) from error

    def _bytes_in_memory(self) -> int:
        return sum(upload.bytes_in_memory for upload in self.form.uploads)

    async def _flush(self) -> None:
        for upload in self.form.uploads:
            if upload.bytes_in_memory:
                await asyncio.to_thread(upload.flush)

    def _too_large(self) -> Problem:
        return Problem(
            "too-large",
            f"an upload may have at most {self._max_bytes:,} bytes; send a shorter or compressed "
            "recording",
            max_bytes=self._max_bytes,
        )


def _unsupported(content_type: str) -> Problem:
    received = f"Received: {content_type[:64]!r}" if content_type else "There is no content type"
    return Problem(
        "unsupported-media-type",
        "send multipart/form-data with the audio in the field 'file', or the audio itself with "
        f"the content type audio/*, video/* or application/octet-stream. {received}",
        headers={"Accept": ", ".join((_MULTIPART, *AUDIO_TYPES))},
    )


def upload_schema(options: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """The OpenAPI schema of a request body with these options."""
    audio: dict[str, Any] = {"type": "array", "items": BINARY, "minItems": 1} if many else BINARY
    name = "files" if many else "file"
    form = {
        "type": "object",
        "required": [name],
        "properties": {name: audio, **options.model_json_schema()["properties"]},
        "additionalProperties": False,
    }
    content: dict[str, Any] = {_MULTIPART: {"schema": form}}
    if not many:
        content |= {kind: {"schema": BINARY} for kind in AUDIO_TYPES}
    return {"requestBody": {"required": True, "content": content}}
