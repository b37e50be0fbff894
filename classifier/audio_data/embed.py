"""Embed the audio clips of a list for training. Frames are cached as soon as they are computed."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np

from classifier.audio_data.clip_list import AudioClip, ClipList
from classifier.audio_data.frame_cache import FrameCache
from classifier.audio_data.parts import PartDecoder, SequentialReader, without_overlaps
from classifier.frame_data.clips import BadRecord, Clip
from vggish.audio.stream import AudioStream, open_audio
from vggish.common.files import audiotag_home, sha256_of
from vggish.common.ordered import map_in_order
from vggish.common.wording import first_few, prefix_location
from vggish.errors import AudioError, EmptyAudioError, OptionError
from vggish.extractor import Extractor, OnAudioProgress
from vggish.frames.clip import ClipFrames, Frames
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS


@dataclass
class EmbedReport:
    """Counts and problems from embedding a list of clips."""

    n_clips: int = 0
    n_embedded: int = 0
    n_cached: int = 0
    bad: list[BadRecord] = field(default_factory=list)  # skipped, because they cannot be embedded
    warnings: list[tuple[str, str]] = field(default_factory=list)  # places and sentences


@dataclass(frozen=True)
class _Result:
    """The frames of a clip, or the reason why there are none."""

    frames: ClipFrames | None
    reason: str = ""
    is_cached: bool = False


def embed_clips(
    clip_list: ClipList,
    extractor: Extractor,
    *,
    cache: Path | None = None,
    max_bad: int = 0,
    jobs: int = 1,
    report: EmbedReport | None = None,
    on_progress: Callable[[EmbedReport], None] | None = None,
) -> Iterator[Clip]:
    """Embed the clips of a list as uint8 frames, or take them from the cache; yield them in order.

    A part of a file is embedded as if it were a file of its own, starting at the exact sample.
    `jobs` files are processed in parallel; the cache is `$AUDIOTAG_HOME/frames` by default. Up to
    `max_bad` clips that cannot be embedded are skipped; one more raises an `AudioError`. The report
    is updated, and given to `on_progress` after each clip.
    """
    if extractor.options.values != "uint8":
        raise OptionError(
            f"heads are trained on uint8 frames. Received: values={extractor.options.values!r}"
        )
    report = EmbedReport() if report is None else report
    report.n_clips += len(clip_list.clips)
    frame_cache = FrameCache(audiotag_home() / "frames" if cache is None else cache, extractor)
    n_bad = 0
    with contextlib.closing(_embed_all(clip_list.clips, extractor, frame_cache, jobs)) as results:
        for clip, result in results:
            _count(report, clip, result)
            n_bad += result.frames is None
            if n_bad > max_bad:
                raise AudioError(_too_many(report.bad[-n_bad:], max_bad))
            if on_progress is not None:
                on_progress(report)
            if result.frames is not None:
                embedder = str(result.frames.metadata["embedder"]["name"])
                frames = cast("Frames", result.frames.frames)
                yield Clip(clip.clip_id, frames, clip.labels, embedder, clip.where)


def _count(report: EmbedReport, clip: AudioClip, result: _Result) -> None:
    if result.frames is None:
        report.bad.append(BadRecord(clip.where, result.reason))
        return
    report.n_cached += result.is_cached
    report.n_embedded += not result.is_cached
    report.warnings += [(clip.where, warning) for warning in result.frames.metadata["warnings"]]


def _too_many(bad: Sequence[BadRecord], max_bad: int) -> str:
    lines = [prefix_location(where, reason) for where, reason in bad]
    hint = "To skip up to N bad clips, use --max-bad N"
    if not max_bad:
        return f"{lines[0]}\n{hint}"
    return (
        f"cannot embed {len(bad)} clips, and at most {max_bad} may fail\n{first_few(lines)}\n{hint}"
    )


def _embed_all(
    clips: Sequence[AudioClip], extractor: Extractor, cache: FrameCache, jobs: int
) -> Generator[tuple[AudioClip, _Result]]:
    """Results in the order of the clips; `jobs` files are processed in parallel."""

    def embed(parts: list[AudioClip], check_stop: Callable[[], None]) -> dict[AudioClip, _Result]:
        return _embed_cached(parts, extractor, cache, lambda *_: check_stop())

    files = (list(parts) for _, parts in itertools.groupby(clips, lambda clip: clip.path))
    pending = map_in_order(embed, files, jobs=jobs, name="audiotag-embed")
    with contextlib.closing(pending):
        for parts, future in pending:
            results = future.result()
            yield from ((clip, results[clip]) for clip in parts)


def _embed_cached(
    parts: list[AudioClip], extractor: Extractor, cache: FrameCache, on_progress: OnAudioProgress
) -> dict[AudioClip, _Result]:
    """Results for clips of one file."""
    path = parts[0].path
    results: dict[AudioClip, _Result] = {}
    reason = ""
    try:
        checksum = sha256_of(path)
        keys = {clip: cache.key(checksum, clip) for clip in parts}
        for clip, key in keys.items():
            frames = cache.get(key)
            if frames is not None:
                results[clip] = _Result(frames, is_cached=True)
        new = [clip for clip in parts if clip not in results]
        for clip, result in _embed_file(path, new, extractor, on_progress):
            results[clip] = result
            if result.frames is not None:
                cache.put(keys[clip], result.frames)
    except AudioError as error:
        reason = str(error)
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror or error}"
    return {clip: results.get(clip, _Result(None, reason)) for clip in parts}


def _embed_file(
    path: Path, clips: Sequence[AudioClip], extractor: Extractor, on_progress: OnAudioProgress
) -> Iterator[tuple[AudioClip, _Result]]:
    for clip in clips:
        if clip.is_whole:
            yield clip, _checked(extractor(path, on_progress=on_progress))
    for row in without_overlaps([clip for clip in clips if not clip.is_whole]):
        with open_audio(path) as stream:
            reader = SequentialReader(stream)
            for clip in row:
                yield clip, _embed_part(reader, clip, extractor, on_progress)


def _embed_part(
    reader: SequentialReader, clip: AudioClip, extractor: Extractor, on_progress: OnAudioProgress
) -> _Result:
    file, start, end = reader.stream, clip.start_seconds, clip.end_seconds
    part = AudioStream(file.name, PartDecoder(reader, clip), None)
    try:
        blocks = list(extractor.stream(part, on_progress))
    except EmptyAudioError:
        if reader.seconds == 0:
            raise
        return _Result(
            None, f"starts at {start:g} s, after the end of {file.name} ({reader.seconds:.2f} s)"
        )
    warnings = file.warnings
    if end is not None and end - reader.seconds > PATCH_SECONDS / 2:
        warnings.append(f"ends at {end:g} s, after the end of {file.name} ({reader.seconds:.2f} s)")
    metadata = extractor.provenance | {
        "duration_seconds": round(part.seconds_read, 6),
        "source": {"name": file.name, "start_seconds": start, "end_seconds": end},
        "warnings": warnings,
    }
    no_frames = np.zeros((0, EMBEDDING_SIZE), np.uint8)
    frames = np.concatenate([no_frames, *cast("list[Frames]", blocks)])
    return _checked(ClipFrames("", frames, extractor.start_seconds(len(frames)), metadata))


def _checked(frames: ClipFrames) -> _Result:
    if len(frames):
        return _Result(frames)
    return _Result(None, f"too short for a frame: {frames.metadata['duration_seconds']:g} s")
