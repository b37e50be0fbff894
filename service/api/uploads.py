"""Request bodies: received in pieces and within limits, as multipart forms or as plain audio.

Starlette's own form parser is not used: it writes files without a limit on their size, and to
unnamed temporary files, which the decoders could not open.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio
from pydantic import BaseModel
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from service.engine.storage import SPOOL_BYTES, Storage, Upload
from service.problems import Problem
from service.settings.config import ServiceConfig

# Form fields of one clip and of several; each is accepted for the other.
FILE_FIELDS = ("file", "files")
AUDIO_TYPES = ("application/octet-stream", "application/ogg", "video/mp4", "video/webm")
# OpenAPI schema of a file.
BINARY = {"type": "string", "format": "binary"}

_MULTIPART = "multipart/form-data"
# Limits of all other fields together, which stay in memory.
_MAX_FIELDS, _MAX_FIELD_BYTES = 1000, 64 << 10
# Size of a multipart body besides its files.
_OVERHEAD_BYTES = 1 << 20


@dataclass
class Form:
    """The content of a body.

    Attributes:
        uploads: the clips, in order.
        fields: names and values of the other fields, in order.
    """

    uploads: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def remove(self) -> None:
        """Remove the clips."""
        for upload in self.uploads:
            upload.remove()


async def receive(
    request: Request, storage: Storage, config: ServiceConfig, *, max_files: int = 1
) -> Form:
    """Receive the body of a request. The caller must `remove` the form.

    Raises:
        Problem: the body has an unsupported type, is too large, too slow, malformed, or has no
            clips or too many; or the disk is full.
        ClientDisconnect: the client has disconnected.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    content_type = kind.decode("latin-1").lower()
    _check_length(request, config.max_upload_bytes)
    form = Form()
    try:
        if content_type == _MULTIPART:
            await _receive_multipart(request, parameters, form, storage, config, max_files)
        elif content_type.startswith("audio/") or content_type in AUDIO_TYPES:
            form.uploads.append(storage.new_file(None))
            await _read(request, form, config, form.uploads[0].add)
        else:
            raise _unsupported(content_type)
        if not form.uploads:
            raise Problem("bad-request", "the form has no audio: send it in the field 'file'")
    except BaseException:
        # In a thread, so that a slow disk does not block the event loop.
        await asyncio.shield(asyncio.to_thread(form.remove))
        raise
    return form


async def _receive_multipart(
    request: Request,
    parameters: Mapping[bytes, bytes],
    form: Form,
    storage: Storage,
    config: ServiceConfig,
    max_files: int,
) -> None:
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= 256:
        raise Problem("bad-request", "the content type multipart/form-data has no boundary")
    parts = _PartHandler(form, storage, max_files, config.max_upload_bytes)
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
    try:
        await _read(request, form, config, parser.write)
        parser.finalize()
    except FormParserError as error:
        raise Problem("bad-request", f"the form is malformed: {error}") from error
    if not parts.is_complete:
        raise Problem("bad-request", "the form is incomplete: the final boundary is missing")


class _PartHandler:
    """Adds the parts of a multipart body to a form, called by the parser."""

    def __init__(self, form: Form, storage: Storage, max_files: int, max_bytes: int) -> None:
        self.is_complete = False
        self._form = form
        self._storage = storage
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._n_field_bytes = self._n_audio_bytes = 0
        self._begin()

    def callbacks(self) -> dict[str, Callable[..., None]]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._on_header_name,
            "on_header_value": self._on_header_value,
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers,
            "on_part_data": self._on_data,
            "on_part_end": self._on_part_end,
            "on_end": self._on_end,
        }

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
        if name not in FILE_FIELDS:
            if file_name is None:
                self._field = name
                return
            raise Problem(
                "bad-request", f"the audio belongs in the field 'file'. Received: {name[:64]!r}"
            )
        if len(self._form.uploads) == self._max_files:
            most = f"at most {self._max_files} clips in a request"
            if self._max_files == 1:
                most = "only one clip in a request; POST /classify/batch accepts several"
            raise Problem("bad-request", most)
        self._upload = self._storage.new_file(
            None if file_name is None else file_name.decode("utf-8", "replace")
        )
        self._form.uploads.append(self._upload)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._upload is not None:
            self._n_audio_bytes += end - start
            if self._n_audio_bytes > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._upload.add(data[start:end])
            return
        self._text += data[start:end]
        self._n_field_bytes += end - start
        if self._n_field_bytes > _MAX_FIELD_BYTES:
            raise Problem("bad-request", "the fields of the form are larger than 64 KiB in total")

    def _on_part_end(self) -> None:
        if self._field is not None:
            self._form.fields.append((self._field, self._text.decode("utf-8", "replace")))
        if len(self._form.fields) > _MAX_FIELDS:
            raise Problem("bad-request", f"the form has more than {_MAX_FIELDS} fields")

    def _on_end(self) -> None:
        self.is_complete = True


async def _read(
    request: Request, form: Form, config: ServiceConfig, write: Callable[[bytes], object]
) -> None:
    """Pass the body to `write` in pieces, within the limits of size and time."""
    limit, n_bytes = int(config.max_upload_bytes), 0
    if request.headers.get("content-type", "").lower().startswith(_MULTIPART):
        limit += _OVERHEAD_BYTES
    clock = asyncio.get_running_loop().time
    end = clock() + config.upload_timeout_seconds
    try:
        # One scope for all pieces: a new one for each costs more than reading it.
        with anyio.fail_after(min(config.upload_idle_seconds, end - clock())) as scope:
            async for piece in request.stream():
                n_bytes += len(piece)
                if n_bytes > limit:
                    raise _too_large(config.max_upload_bytes)
                write(piece)
                if sum(upload.bytes_in_memory for upload in form.uploads) >= SPOOL_BYTES:
                    scope.deadline = math.inf  # a slow disk is not the client's fault
                    for upload in form.uploads:
                        if upload.bytes_in_memory:
                            await asyncio.to_thread(upload.flush)
                scope.deadline = min(clock() + config.upload_idle_seconds, end)
    except TimeoutError as error:
        raise Problem(
            "upload-timeout",
            f"nothing arrived for {config.upload_idle_seconds:g} s, or the upload took more than "
            f"{config.upload_timeout_seconds:g} s; send it again, or a smaller one",
            headers={"Connection": "close"},
        ) from error


def _check_length(request: Request, limit: int) -> None:
    """Refuse a body whose declared length is too large before it is received."""
    text = request.headers.get("content-length", "0")
    length = int(text) if text.isascii() and text.isdigit() else math.inf
    if length > limit + _OVERHEAD_BYTES:
        raise _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(
        "too-large",
        f"an upload may have at most {limit:,} bytes; send a shorter or compressed recording",
        max_bytes=limit,
    )


def _unsupported(content_type: str) -> Problem:
    received = f"Received: {content_type[:64]!r}" if content_type else "There is no content type"
    return Problem(
        "unsupported-media-type",
        "send multipart/form-data with the audio in the field 'file', or the audio itself with "
        f"the content type audio/* or application/octet-stream. {received}",
        headers={"Accept": f"{_MULTIPART}, audio/*, {', '.join(AUDIO_TYPES)}"},
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
        content |= {kind: {"schema": BINARY} for kind in ("audio/*", *AUDIO_TYPES)}
    return {"requestBody": {"required": True, "content": content}}
