"""The page at `/`: its files, and the recordings that it offers to try.

All that can be asked for is in dictionaries that are made from the packages' own files; a name
that a client sends is looked up there and never becomes a path.
"""

from __future__ import annotations

import hashlib
import io
import re
import secrets
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from service.middleware.request_context import PAGE_POLICY
from service.problems import Problem

router = APIRouter()

_STATIC_FILES = (
    "api.js",
    "app.css",
    "app.js",
    "capture.js",
    "capture-worklet.js",
    "colours.js",
    "dom.js",
    "downloads.js",
    "favicon.svg",
    "figure.js",
    "live.js",
    "player.js",
    "result.js",
    "sound.js",
    "status.js",
    "tag-rows.js",
    "wav.js",
    "vendor/inter.LICENSE.txt",
    "vendor/inter.woff2",
    "vendor/regions.esm.js",
    "vendor/spectrogram.esm.js",
    "vendor/wavesurfer.LICENSE.txt",
    "vendor/wavesurfer.esm.js",
)
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

# Where index.html has a nonce for the one style sheet that wavesurfer.js puts into its shadow.
_NONCE_MARK = "STYLE-NONCE"
_STYLES = "style-src 'self'"

# What the recordings are called, in the order in which they are offered.
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
_ATTRIBUTION = "ATTRIBUTION.md"
# | `file` | what one hears | author | licence | where from | changes |
_ATTRIBUTION_ROW = re.compile(r"^\| `([\w.-]+)` \| (.+?) \| (.+?) \| (.+?) \| .+ \|$", re.MULTILINE)


class Example(BaseModel):
    """A recording that comes with the service."""

    name: str = Field(examples=["applause.ogg"])
    title: str = Field(examples=["Applause"])
    description: str = Field(examples=["A large audience applauding and cheering"])
    url: str = Field(examples=["examples/applause.ogg"], description="Relative to the page.")
    attribution: str = Field(examples=["lonemonk, edited by Wuzzy"])
    licence: str = Field(examples=["CC-BY-3.0"], description="An SPDX identifier.")
    duration_seconds: float = Field(examples=[3.688])


class Examples(BaseModel):
    """The recordings that come with the service."""

    examples: list[Example]


@dataclass(frozen=True)
class _File:
    """What is sent: the bytes of a file, its media type and its entity tag."""

    content: bytes
    media_type: str
    etag: str


@router.get("/")
def page() -> Response:
    """The page. A fresh nonce each time, so it is never stored."""
    nonce = secrets.token_urlsafe(16)
    return Response(
        _index().replace(_NONCE_MARK, nonce),
        media_type="text/html",
        headers={
            "Cache-Control": "no-store",
            "Content-Security-Policy": PAGE_POLICY.replace(_STYLES, f"{_STYLES} 'nonce-{nonce}'"),
        },
    )


@router.get("/static/{name:path}")
def static_file(name: str, request: Request) -> Response:
    """A file of the page."""
    return _answer(_static_files().get(name), request)


@router.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """The page's icon, where browsers look for it unasked."""
    return _answer(_static_files()["favicon.svg"], request)


@router.get("/examples")
def list_examples() -> Examples:
    """The recordings that come with the service, with whose they are."""
    return _examples()


@router.get("/examples/{name}")
def example(name: str, request: Request) -> Response:
    """One of the recordings as a file, or ATTRIBUTION.md: whose they are, in full."""
    return _answer(_example_files().get(name), request)


def _answer(file: _File | None, request: Request) -> Response:
    """The file, or that the client's copy is still good; 404 if there is none."""
    if file is None:
        raise Problem(
            "not-found",
            f"there is no file {request.url.path[:200]!r}; the page at / links what there is",
        )
    headers = {"ETag": file.etag, "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if file.etag in (tag.strip().removeprefix("W/") for tag in known.split(",")):
        return Response(status_code=304, headers=headers)
    return Response(file.content, media_type=file.media_type, headers=headers)


def _file(name: str, content: bytes) -> _File:
    suffix = "." + name.rpartition(".")[2]
    return _File(content, _MEDIA_TYPES[suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@lru_cache(maxsize=1)
def _index() -> str:
    return (resources.files("service") / "static" / "index.html").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def _static_files() -> dict[str, _File]:
    root = resources.files("service") / "static"
    return {
        name: _file(name, root.joinpath(*name.split("/")).read_bytes()) for name in _STATIC_FILES
    }


@lru_cache(maxsize=1)
def _attributions() -> dict[str, tuple[str, str, str]]:
    """For each recording what one hears, whose it is, and its licence."""
    text = (resources.files("weights.clips") / _ATTRIBUTION).read_text(encoding="utf-8")
    return {
        name: (description, re.sub(r" \(.*?\)", "", author), licence)
        for name, description, author, licence in _ATTRIBUTION_ROW.findall(text)
    }


@lru_cache(maxsize=1)
def _example_files() -> dict[str, _File]:
    root = resources.files("weights.clips")
    return {name: _file(name, (root / name).read_bytes()) for name in (*_TITLES, _ATTRIBUTION)}


@lru_cache(maxsize=1)
def _examples() -> Examples:
    import soundfile

    found = []
    for name, title in _TITLES.items():
        description, attribution, licence = _attributions()[name]
        seconds = soundfile.info(io.BytesIO(_example_files()[name].content)).duration
        found.append(
            Example(
                name=name,
                title=title,
                description=description,
                url=f"examples/{name}",
                attribution=attribution,
                licence=licence,
                duration_seconds=round(seconds, 3),
            )
        )
    return Examples(examples=found)
