"""What is in files of frames, bundles and sound files: `audiotag inspect`.

Damage is what one inspects for, so nothing here stops at it: it is counted and named.
"""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from classifier.bundles.bundle import load
from classifier.frame_data.clips import ReadReport
from classifier.frame_data.finding import (
    files_below,
    find_frame_files,
    frames_among,
    looks_like_frames,
)
from classifier.frame_data.records import read_clips
from classifier.frame_data.remote_files import is_remote
from classifier.labels import Labels
from classifier.names import CARD_FILE, RUN_BUNDLE
from classifier.reports.inspection import (
    AudioFile,
    AudioInspection,
    BundleFile,
    BundleInspection,
    FramesInspection,
    Inspection,
)
from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.audio.stream import open_audio
from vggish.common.checksums import sha256_of
from vggish.common.choices import FRAME_FORMATS
from vggish.errors import AudioError, BundleError, OptionError
from vggish.mel_features import n_patches
from vggish.params import SAMPLE_RATE_HZ


def inspect_paths(
    arguments: Sequence[str], labels: Labels, *, for_plot: bool = False
) -> list[Inspection]:
    """Say what is in files of frames, bundles and sound files.

    Args:
        arguments: files, directories (bundles, runs, or any with such files below them) and
            patterns.
        labels: names of the classes of the frames.
        for_plot: what is found is to be drawn: frames alone, or sounds alone.

    Returns:
        One `BundleInspection` a bundle, then one `FramesInspection` of all files of frames and
        one `AudioInspection` of all sound files, if there are any.

    Raises:
        OptionError: an argument leads to nothing that can be inspected, or to what no picture
            can be drawn of.
    """
    bundles: dict[str, None] = {}
    frame_files: list[str] = []
    sounds: dict[str, None] = {}
    for argument in arguments:
        found_bundles, found_frames, found_sounds = _sorted_out(argument)
        if not (found_bundles or found_frames or found_sounds):
            raise OptionError(f"{argument} has no frames, bundles or sound files to inspect")
        bundles.update(dict.fromkeys(found_bundles))
        frame_files += found_frames
        sounds.update(dict.fromkeys(found_sounds))
    if for_plot and (bundles or (frame_files and sounds)):
        raise OptionError(
            "there is no picture of bundles, nor one of frames and sounds together; name files of "
            "frames, or of sounds, alone"
        )
    inspections: list[Inspection] = [inspect_bundle(bundle) for bundle in bundles]
    if frame_files:
        inspections.append(inspect_frames(find_frame_files(frame_files), labels))
    if sounds:
        inspections.append(inspect_audio(sounds))
    return inspections


def inspect_frames(paths: Iterable[str], labels: Labels) -> FramesInspection:
    """Read files of frames and count what is in them; see `inspect_paths`."""
    paths = list(paths)
    local = [path for path in paths if not is_remote(path) and os.path.isfile(path)]
    found = FramesInspection(labels, ReadReport(), sum(map(os.path.getsize, local)))
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


def inspect_bundle(directory: str) -> BundleInspection:
    """TableStyle at a bundle, compare its files with their checksums, and try to load it."""
    place = Path(directory)
    try:
        card = json.loads((place / CARD_FILE).read_text("utf-8"))
    except (OSError, ValueError):
        card = {}  # loading it will tell
    card = card if isinstance(card, dict) else {}
    listed = card.get("files")
    files = listed.items() if isinstance(listed, dict) else ()
    problem = None
    try:
        load(place)
    except BundleError as error:
        problem = str(error)
    checked = tuple(_bundle_file(place, str(name), facts) for name, facts in files)
    return BundleInspection(directory, card, checked, problem)


def inspect_audio(paths: Iterable[str]) -> AudioInspection:
    """TableStyle at the headers of sound files."""
    return AudioInspection(tuple(map(_audio_file, paths)))


def _sorted_out(argument: str) -> tuple[list[str], list[str], list[str]]:
    """The bundles, files of frames and sound files that an argument means."""
    for place in (argument, os.path.join(argument, RUN_BUNDLE)):
        if os.path.isfile(os.path.join(place, CARD_FILE)):
            return [place], [], []
    if is_remote(argument):
        return [], find_frame_files([argument]), []
    if os.path.isdir(argument):
        below = sorted(files_below(argument))
        cards = [path for path in below if os.path.basename(path) == CARD_FILE]
        bundles = [os.path.dirname(path) for path in cards]
        inside = tuple(os.path.join(bundle, "") for bundle in bundles)
        others = [path for path in below if not path.startswith(inside)]
        sounds = [path for path in others if _is_sound_name(path)]
        return bundles, frames_among(below), sounds
    if os.path.exists(argument):
        is_sound = _is_sound_name(argument) or not _may_be_frames(argument)
        return [], [] if is_sound else [argument], [argument] if is_sound else []
    matches = sorted(glob.glob(argument, recursive=True)) if glob.has_magic(argument) else []
    if not matches:
        raise OptionError(f"there is no file or directory {argument}")
    if "**" in argument:
        matches = [match for match in matches if not os.path.isdir(match)]
    # A directory that a pattern matches may hold nothing of interest.
    parts = [_sorted_out(match) for match in matches]
    bundles, frames, sounds = ([path for part in parts for path in part[i]] for i in range(3))
    return bundles, frames, sounds


def _is_sound_name(path: str) -> bool:
    return Path(path).suffix.lower() in AUDIO_SUFFIXES


def _may_be_frames(path: str) -> bool:
    """Whether a file, whose name may say nothing, is more likely of frames than a sound."""
    if looks_like_frames(path) or Path(path).suffix.lower().lstrip(".") in FRAME_FORMATS:
        return True
    report = ReadReport()
    next(read_clips([path], max_bad=sys.maxsize, report=report), None)
    return report.n_clips > 0


def _bundle_file(place: Path, name: str, facts: Any) -> BundleFile:
    path = place / name
    if ".." in path.parts or not path.is_relative_to(place):
        return BundleFile(name, None, "not inside the bundle")
    expected = facts.get("sha256") if isinstance(facts, dict) else None
    try:
        n_bytes = path.stat().st_size
        return BundleFile(name, n_bytes, "fits" if sha256_of(path) == expected else "differs")
    except FileNotFoundError:
        return BundleFile(name, None, "missing")
    except OSError as error:
        return BundleFile(name, None, error.strerror or str(error))


def _audio_file(path: str) -> AudioFile:
    try:
        with open_audio(path) as stream:
            seconds = stream.seconds_in_header
            if seconds is None:
                for _ in stream.blocks():
                    pass
                seconds = stream.seconds_read
            return AudioFile(
                path,
                stream.format,
                stream.sample_rate_hz,
                stream.n_channels,
                seconds,
                n_patches(round(seconds * SAMPLE_RATE_HZ)),
                tuple(stream.warnings),
            )
    except AudioError as error:
        return AudioFile(path, error=str(error))
