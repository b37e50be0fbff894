"""Inspect files of frames, bundles and audio files: `audiotag inspect`.

Damage is counted and reported, and never stops an inspection.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from classifier.bundles.bundle import load
from classifier.frame_data import finding
from classifier.frame_data.clips import ReadReport
from classifier.frame_data.records import read_clips
from classifier.frame_data.remote_files import is_remote
from classifier.labels import Labels
from classifier.names import CARD_FILE, RUN_BUNDLE
from classifier.reports import inspection
from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.audio.stream import open_audio
from vggish.common.choices import FRAME_FORMATS
from vggish.common.files import sha256_of
from vggish.common.search import expand, is_pattern
from vggish.errors import AudioError, BundleError, OptionError
from vggish.mel_features import n_patches
from vggish.params import SAMPLE_RATE_HZ


class _Paths(NamedTuple):
    """Paths by kind: directories of bundles, files of frames, audio files."""

    bundles: Sequence[str] = ()
    frames: Sequence[str] = ()
    audio: Sequence[str] = ()


def inspect_paths(
    arguments: Sequence[str], labels: Labels, *, for_plot: bool = False
) -> list[inspection.Inspection]:
    """Inspect files of frames, bundles and audio files.

    Arguments are files, directories (bundles, runs, or directories with such files below them) and
    patterns. The result has a `BundleInspection` for each bundle, then one `FramesInspection` of
    all files of frames and one `AudioInspection` of all audio files, if there are any. Raises an
    `OptionError` for an argument with nothing to inspect; `for_plot` refuses what cannot be drawn:
    bundles, or frames and audio files together.
    """
    found = []
    for argument in arguments:
        found.append(_find(argument))
        if not any(found[-1]):
            raise OptionError(f"{argument} has no frames, bundles or audio files to inspect")
    bundles, frames, audio = _joined(found)
    if for_plot and (bundles or (frames and audio)):
        raise OptionError(
            "bundles cannot be drawn, nor frames and audio together: name only files of frames, or "
            "only audio files"
        )
    inspections: list[inspection.Inspection] = [
        inspect_bundle(bundle) for bundle in dict.fromkeys(bundles)
    ]
    if frames:
        inspections.append(inspect_frames(finding.find_frame_files(frames), labels))
    if audio:
        inspections.append(
            inspection.AudioInspection(tuple(map(_audio_file, dict.fromkeys(audio))))
        )
    return inspections


def inspect_frames(paths: Iterable[str], labels: Labels) -> inspection.FramesInspection:
    """Read files of frames and count their contents; see `inspect_paths`."""
    paths = list(paths)
    local = [path for path in paths if not is_remote(path) and os.path.isfile(path)]
    found = inspection.FramesInspection(labels, ReadReport(), sum(map(os.path.getsize, local)))
    ids: set[str] = set()
    for clip in read_clips(paths, max_bad=sys.maxsize, report=found.report):
        ids.add(clip.clip_id)
        found.lengths[len(clip.frames)] += 1
        if clip.labels is None:
            continue
        found.labels_per_clip[len(clip.labels)] += 1
        found.examples.update(clip.labels)
        if len(clip.labels) > 1:
            found.combinations[tuple(sorted(clip.labels))] += 1
    found.report.n_repeated_ids = found.report.n_clips - len(ids)
    return found


def inspect_bundle(directory: str) -> inspection.BundleInspection:
    """Read the card of a bundle, verify the checksums of its files, and try to load it."""
    path = Path(directory)
    try:
        card = json.loads((path / CARD_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        card = {}  # loading the bundle reports it
    card = card if isinstance(card, dict) else {}
    listed = card.get("files")
    listed = listed if isinstance(listed, dict) else {}
    files = tuple(_bundle_file(path, str(name), facts) for name, facts in listed.items())
    problem = None
    try:
        load(path)
    except BundleError as error:
        problem = str(error)
    return inspection.BundleInspection(directory, problem, files, card)


def _find(argument: str) -> _Paths:
    for directory in (argument, os.path.join(argument, RUN_BUNDLE)):
        if os.path.isfile(os.path.join(directory, CARD_FILE)):
            return _Paths(bundles=[directory])
    if is_remote(argument):
        return _Paths(frames=finding.find_frame_files([argument]))
    if os.path.isdir(argument):
        below = sorted(finding.files_below(argument))
        bundles = [os.path.dirname(path) for path in below if os.path.basename(path) == CARD_FILE]
        inside = tuple(os.path.join(bundle, "") for bundle in bundles)
        audio = [path for path in below if _is_audio_name(path) and not path.startswith(inside)]
        return _Paths(bundles, finding.frames_among(below), audio)
    if os.path.exists(argument):
        is_audio = _is_audio_name(argument) or not _may_be_frames(argument)
        return _Paths(audio=[argument]) if is_audio else _Paths(frames=[argument])
    matches = expand(argument) if is_pattern(argument) else []
    if not matches:
        raise OptionError(f"no file or directory {argument}")
    return _joined(map(_find, matches))


def _joined(parts: Iterable[_Paths]) -> _Paths:
    return _Paths(*([path for each in kind for path in each] for kind in zip(*parts, strict=True)))


def _is_audio_name(path: str) -> bool:
    return Path(path).suffix.lower() in AUDIO_SUFFIXES


def _may_be_frames(path: str) -> bool:
    """Whether a file is one of frames, by its name or by its first record."""
    if finding.looks_like_frames(path) or Path(path).suffix.lower().lstrip(".") in FRAME_FORMATS:
        return True
    report = ReadReport()
    next(read_clips([path], max_bad=sys.maxsize, report=report), None)
    return report.n_clips > 0


def _bundle_file(bundle: Path, name: str, facts: Any) -> inspection.BundleFile:
    path = bundle / name
    if ".." in path.parts or not path.is_relative_to(bundle):
        return inspection.BundleFile(name, None, "not inside the bundle")
    expected = facts.get("sha256") if isinstance(facts, dict) else None
    try:
        n_bytes = path.stat().st_size
        return inspection.BundleFile(
            name, n_bytes, "fits" if sha256_of(path) == expected else "differs"
        )
    except FileNotFoundError:
        return inspection.BundleFile(name, None, "missing")
    except OSError as error:
        return inspection.BundleFile(name, None, error.strerror or str(error))


def _audio_file(path: str) -> inspection.AudioFile:
    try:
        with open_audio(path) as stream:
            for _ in stream.blocks():
                pass  # warnings about the samples need all of them
            seconds = stream.seconds_read
            return inspection.AudioFile(
                path,
                stream.format,
                stream.sample_rate_hz,
                stream.n_channels,
                seconds,
                n_patches(round(seconds * SAMPLE_RATE_HZ)),
                tuple(stream.warnings),
            )
    except AudioError as error:
        return inspection.AudioFile(path, error=str(error))
