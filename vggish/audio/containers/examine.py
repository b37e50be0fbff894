"""Describe the audio of a file of any format whose structure is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vggish.audio.containers.bytes import FileBytes
from vggish.audio.containers.chunks import Container, settle
from vggish.audio.containers.flac import find_flac
from vggish.audio.containers.headers import read_container
from vggish.audio.containers.layout import MAX_LINKS, Found, Layout, Link
from vggish.audio.containers.mpeg import find_mpeg
from vggish.audio.containers.ogg import find_ogg
from vggish.audio.containers.tags import skip_id3

_MPEG_SUFFIXES = {".mp1", ".mp2", ".mp3", ".mpa", ".mpga"}


def examine(path: str) -> Layout:
    """Find the stretches of audio in a file, and compare their sizes with the headers.

    Raises an `OSError` if the file cannot be read.
    """
    is_mpeg = Path(path).suffix.lower() in _MPEG_SUFFIXES
    links: list[Link] = []
    warnings: list[str] = []
    n_streams = 1
    with open(path, "rb") as file:
        data = FileBytes(file)
        position: int | None = 0
        while position is not None and len(links) < MAX_LINKS:
            start = skip_id3(data, position)
            if (ogg := find_ogg(data, start) if data.at(start, 4) == b"OggS" else None) is not None:
                found: Found | None = ogg[0]
                n_streams = n_streams if links else ogg[1]
            else:
                found = _find(data, start, is_mpeg)
            if found is None:
                if not links:
                    return Layout(None)
                warnings.append(
                    f"{data.size - position:,} bytes follow after the audio, which begin like a "
                    "further audio file but are not one; they were not decoded"
                )
                break
            links += found.links
            warnings += found.warnings
            position = found.next_file
        if position is not None and len(links) >= MAX_LINKS:
            warnings.append(
                f"joined from more than {MAX_LINKS:,} parts; the last {data.size - position:,} "
                "bytes were not decoded. Split the file"
            )
        return Layout(tuple(links), tuple(warnings), n_streams)


def _find(data: FileBytes, start: int, is_mpeg: bool) -> Found | None:
    """The audio of the file that begins at `start`; None for an unknown format."""
    if data.at(start, 4) == b"fLaC":
        return find_flac(data, start)
    container = read_container(data, start)
    if container is not None:
        found = settle(container, data, start, data.size)
        return _mpeg_in(container, found, data) if container.holds_mpeg else found
    return find_mpeg(data, start, search=is_mpeg or start > 0)


def _mpeg_in(container: Container, found: Found, data: FileBytes) -> Found:
    """The MPEG audio in a WAV file, whose header does not state the number of frames."""
    end = found.links[0].end
    mpeg = find_mpeg(data, container.audio.start, search=True, end=end)
    if mpeg is None:
        return found
    links = tuple(replace(link, format_name=container.format_name) for link in mpeg.links)
    return Found(links, found.warnings + mpeg.warnings, found.next_file)
