"""Bodies of requests: received in pieces, within limits, multipart or as they are."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
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

# Of one sound, of several; either is taken for both.
FILE_FIELDS = ("file", "files")

AUDIO_TYPES = ("application/octet-stream", "application/ogg", "video/mp4", "video/webm")

_MULTIPART = "multipart/form-data"

# How OpenAPI describes bytes.
BINARY = {"type": "string", "format": "binary"}

# Of all fields that are no sounds together: they stay in memory.
_MAX_FIELDS_BYTES = 64 << 10

_MAX_FIELDS = 1000

# Of a multipart body beside its sounds.
_OVERHEAD_BYTES = 1 << 20


@dataclass
class Form:
    """What a body held.

    Attributes:
        uploads: the sounds, in their order.
        fields: names and values of the other fields, in their order.
    """

    uploads: list[Upload] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)

    def remove(self) -> None:
        """Forget the sounds."""
        for upload in self.uploads:
            upload.remove()


async def receive(
    request: Request, storage: Storage, config: ServiceConfig, *, max_files: int = 1
) -> Form:
    """Receive the body of a request. Whoever gets the form must `remove` it.

    Raises:
        Problem: the body is of another type, too large, too slow, damaged, without a sound or
            with too many, or there is no room for it.
        ClientDisconnect: the client left.
    """
    kind, parameters = parse_options_header(request.headers.get("content-type"))
    content_type = kind.decode("latin-1").lower()
    _check_length(request, config.max_upload_bytes)
    form = Form()
    try:
        if content_type == _MULTIPART:
            await _receive_multipart(request, parameters, form, storage, config, max_files)
        elif content_type.startswith("audio/") or content_type in AUDIO_TYPES:
            await _receive_raw(request, form, storage, config)
        else:
            raise _unsupported(content_type)
        if not form.uploads:
            raise Problem(
                "bad-request", "there is no sound in the form: send it in the field 'file'"
            )
    except BaseException:
        # Not in the event loop: a slow disk would hold up everybody.
        await asyncio.shield(asyncio.to_thread(form.remove))
        raise
    return form


async def _receive_raw(
    request: Request, form: Form, storage: Storage, config: ServiceConfig
) -> None:
    upload = storage.new_file(None)
    form.uploads.append(upload)
    await _read(request, form, config, upload.add)


async def _receive_multipart(
    request: Request,
    parameters: dict[bytes, bytes],
    form: Form,
    storage: Storage,
    config: ServiceConfig,
    max_files: int,
) -> None:
    boundary = parameters.get(b"boundary", b"")
    if not 0 < len(boundary) <= 256:
        raise Problem("bad-request", "the content type multipart/form-data names no boundary")
    parts = _Parts(form, storage, max_files, config.max_upload_bytes)
    parser = MultipartParser(boundary, parts.callbacks())  # type: ignore[arg-type]
    try:
        await _read(request, form, config, parser.write)
        parser.finalize()
    except FormParserError as error:
        raise Problem("bad-request", f"the form is damaged: {error}") from error
    if not parts.is_complete:
        raise Problem("bad-request", "the form ends early: its last boundary is missing")


class _Parts:
    """Takes the parts of a form as the parser finds them."""

    def __init__(self, form: Form, storage: Storage, max_files: int, max_bytes: int) -> None:
        self.is_complete = False
        self._form = form
        self._storage = storage
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._headers: dict[bytes, bytes] = {}
        self._name, self._value = b"", b""
        self._field: str | None = None
        self._text = b""
        self._n_field_bytes = self._n_sound_bytes = 0
        self._upload: Upload | None = None

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
        self._headers, self._name, self._value = {}, b"", b""
        self._field, self._text, self._upload = None, b"", None

    def _on_header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name, self._value = b"", b""

    def _on_headers(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        if b"name" not in options:
            raise Problem("bad-request", "a part of the form has no name")
        name = options[b"name"].decode("utf-8", "replace")
        if b"filename" not in options and name not in FILE_FIELDS:
            self._field = name
            return
        if name not in FILE_FIELDS:
            raise Problem(
                "bad-request", f"the sound belongs in the field 'file'. Received: {name[:64]!r}"
            )
        if len(self._form.uploads) == self._max_files:
            most = f"{self._max_files} sounds at once"
            if self._max_files == 1:
                most = "one sound at once; POST /classify/batch takes more"
            raise Problem("bad-request", f"at most {most}")
        file_name = options.get(b"filename")
        self._upload = self._storage.new_file(
            None if file_name is None else file_name.decode("utf-8", "replace")
        )
        self._form.uploads.append(self._upload)

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        if self._upload is not None:
            self._n_sound_bytes += end - start
            if self._n_sound_bytes > self._max_bytes:
                raise _too_large(self._max_bytes)
            self._upload.add(data[start:end])
            return
        self._text += data[start:end]
        self._n_field_bytes += end - start
        if self._n_field_bytes > _MAX_FIELDS_BYTES:
            raise Problem("bad-request", "the fields of the form have more than 64 KiB together")

    def _on_part_end(self) -> None:
        if self._field is not None:
            self._form.fields.append((self._field, self._text.decode("utf-8", "replace")))
        if len(self._form.fields) > _MAX_FIELDS:
            raise Problem("bad-request", f"a form has at most {_MAX_FIELDS} fields")

    def _on_end(self) -> None:
        self.is_complete = True


async def _read(
    request: Request, form: Form, config: ServiceConfig, take: Callable[[bytes], object]
) -> None:
    """Give the body to `take` in pieces, none of them late, and not more than there may be."""
    limit, n_bytes = config.max_upload_bytes, 0
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
                take(piece)
                if sum(upload.bytes_in_memory for upload in form.uploads) >= SPOOL_BYTES:
                    scope.deadline = math.inf  # a slow disk is not the client's fault
                    await _flush(form.uploads)
                scope.deadline = min(clock() + config.upload_idle_seconds, end)
    except TimeoutError as error:
        raise Problem(
            "upload-timeout",
            f"nothing arrived for {config.upload_idle_seconds:g} s, or the whole took more than "
            f"{config.upload_timeout_seconds:g} s; send it again, or less of it",
            headers={"Connection": "close"},
        ) from error


async def _flush(uploads: Sequence[Upload]) -> None:
    """Write to the disk what a body has in memory."""
    for upload in uploads:
        if upload.bytes_in_memory:
            await asyncio.to_thread(upload.flush)


def _check_length(request: Request, limit: int) -> None:
    """Refuse at once what says that it is too large."""
    text = request.headers.get("content-length", "0")
    length = int(text) if text.isascii() and text.isdigit() else math.inf
    if length > limit + _OVERHEAD_BYTES:
        raise _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(
        "too-large",
        f"an upload may have {limit:,} bytes; send a shorter or compressed recording",
        max_bytes=limit,
    )


def _unsupported(content_type: str) -> Problem:
    received = f"Received: {content_type[:64]!r}" if content_type else "There is no content type"
    return Problem(
        "unsupported-media-type",
        "send multipart/form-data with the sound in the field 'file', or the sound itself with "
        f"the content type audio/* or application/octet-stream. {received}",
        headers={"Accept": f"{_MULTIPART}, audio/*, {', '.join(AUDIO_TYPES)}"},
    )


def upload_schema(options: type[BaseModel], *, many: bool = False) -> dict[str, Any]:
    """How OpenAPI describes the body of a request with these options."""
    sound: dict[str, Any] = {"type": "array", "items": BINARY, "minItems": 1} if many else BINARY
    name = "files" if many else "file"
    form = {
        "type": "object",
        "required": [name],
        "properties": {name: sound, **options.model_json_schema()["properties"]},
        "additionalProperties": False,
    }
    content: dict[str, Any] = {_MULTIPART: {"schema": form}}
    if not many:
        content |= {kind: {"schema": BINARY} for kind in ("audio/*", *AUDIO_TYPES)}
    return {"requestBody": {"required": True, "content": content}}
