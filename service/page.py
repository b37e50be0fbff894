"""The page at `/`: its files, and example recordings.

All files are in dictionaries, made from the files of the packages. A name that a client sends is
looked up there and never becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
from collections.abc import Iterable
from functools import lru_cache
from importlib import resources
from typing import Any, NamedTuple

import soundfile
from fastapi import APIRouter, Request, Response

from service.middleware.request_context import PAGE_POLICY
from service.problems import Problem

router = APIRouter()

# Files with other suffixes are not sent.
_MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".flac": "audio/flac",
    ".md": "text/plain; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mp3": "audio/mpeg",
    ".ogg": "audio/ogg",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wav": "audio/wav",
    ".woff2": "font/woff2",
}


# Titles of the recordings, in the order of the page.
_TITLES = {
    "guitar_chord.ogg": "Electric guitar",
    "speech_voicemail.wav": "Voicemail prompt",
    "drum_roll.mp3": "Drum roll",
    "truck_start.ogg": "Truck starting",
    "sheep_bleat.ogg": "Sheep",
    "circular_saw.ogg": "Circular saw",
    "crossing_bell.flac": "Crossing bell",
    "water_stream.ogg": "Running water",
    "speech_command.flac": "Spoken command",
    "cash_register.flac": "Cash register",
    "horse_neigh.ogg": "Horse",
    "fire_crackle.ogg": "Fire",
    "hammering.ogg": "Hammering",
    "applause.ogg": "Applause",
}
# | `file` | content | author | licence | source | changes |
_ATTRIBUTION_ROW = re.compile(r"^\| `([\w.-]+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", re.MULTILINE)


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


@router.get("/")
def page() -> Response:
    """Get the page, which has a new nonce each time and is never cached."""
    nonce = secrets.token_urlsafe(16)
    policy = PAGE_POLICY.replace("style-src 'self'", f"style-src 'self' 'nonce-{nonce}'")
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": policy}
    # The nonce of the style sheet in wavesurfer.js's shadow DOM.
    content = _index().replace("STYLE-NONCE", nonce)
    return Response(content, media_type="text/html", headers=headers)


@router.get("/static/{name:path}")
def static_file(name: str, request: Request) -> Response:
    """Get a file of the page."""
    return _answer(_static_files().get(name), request)


@router.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """Get the icon from where browsers look for it."""
    return _answer(_static_files()["favicon.svg"], request)


@router.get("/examples")
def list_examples() -> dict[str, list[dict[str, Any]]]:
    """List the example recordings, with their attribution."""
    return {"examples": _examples()}


@router.get("/examples/{name}")
def example(name: str, request: Request) -> Response:
    """Get an example recording, or their full attribution in ATTRIBUTION.md."""
    return _answer(_example_files().get(name), request)


def _answer(file: _File | None, request: Request) -> Response:
    if file is None:
        path = request.url.path[:200]
        raise Problem("not-found", f"there is no file {path!r}; see the links of the page at /")
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _files(folder: Iterable[Any], prefix: str = "") -> dict[str, _File]:
    found = {}
    for path in folder:
        media_type = _MEDIA_TYPES.get("." + path.name.rpartition(".")[2])
        if media_type:
            content = path.read_bytes()
            etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
            found[prefix + path.name] = _File(content, media_type, etag)
    return found


@lru_cache(maxsize=1)
def _index() -> str:
    return (resources.files("service") / "static" / "index.html").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _static_files() -> dict[str, _File]:
    root = resources.files("service") / "static"
    return _files(root.iterdir()) | _files((root / "vendor").iterdir(), "vendor/")


@lru_cache(maxsize=1)
def _example_files() -> dict[str, _File]:
    return _files(resources.files("weights.clips").iterdir())


@lru_cache(maxsize=1)
def _examples() -> list[dict[str, Any]]:
    """The recordings: addresses are relative to the page, licences are SPDX identifiers."""
    files = _example_files()
    table = files["ATTRIBUTION.md"].content.decode()
    rows = {name: row for name, *row in _ATTRIBUTION_ROW.findall(table)}
    found = []
    for name, title in _TITLES.items():
        description, author, licence = rows[name]
        seconds = soundfile.info(io.BytesIO(files[name].content)).duration
        example = {
            "name": name,
            "title": title,
            "description": description,
            "url": f"examples/{name}",
            "attribution": re.sub(r" \(.*?\)", "", author),
            "licence": licence,
            "duration_seconds": round(seconds, 3),
        }
        found.append(example)
    return found
