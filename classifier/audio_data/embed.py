"""People's own sounds to clips of frames that can be trained on.

Which sounds: `sound_lists`. What was embedded before is taken from a cache: `frame_cache`; an
entry is written as soon as its sound is embedded.
"""

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
from classifier.audio_data.parts import PartDecoder, Reader, drop_overlaps
from classifier.frame_data.clips import BadRecord, Clip
from vggish.audio.stream import AudioStream, open_audio
from vggish.common.checksums import sha256_of
from vggish.common.files import audiotag_home
from vggish.common.ordered import map_in_order
from vggish.common.wording import first_few
from vggish.errors import AudioError, EmptyAudioError, OptionError
from vggish.extractor import Extractor, Progress
from vggish.frames.clip import ClipFrames, Frames
from vggish.params import EMBEDDING_SIZE, PATCH_SECONDS


@dataclass
class EmbedReport:
    """What was done while sounds were embedded.

    Attributes:
        n_clips: in the list.
        n_embedded: embedded in this run.
        n_cached: taken from the cache.
        bad: what could not be embedded, and was left out.
        warnings: (sound, sentence) about what was embedded all the same.
    """

    n_clips: int = 0
    n_embedded: int = 0
    n_cached: int = 0
    bad: list[BadRecord] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class _Made:
    """What became of a sound: its frames, or the reason why there are none."""

    clip: ClipFrames | None
    reason: str = ""
    is_cached: bool = False


def embed_clips(
    sounds: ClipList,
    extractor: Extractor,
    *,
    cache: Path | None = None,
    max_bad: int = 0,
    jobs: int = 1,
    report: EmbedReport | None = None,
    on_progress: Callable[[EmbedReport], None] | None = None,
) -> Iterator[Clip]:
    """The clips of a list, embedded or from the cache.

    A part of a sound is embedded as if it had been cut out and were a file of its own: its
    first frame begins at its start, to the sample.

    Args:
        sounds: what to embed.
        extractor: must give uint8 frames.
        cache: directory of the cache, `$AUDIOTAG_HOME/frames` by default.
        max_bad: how many sounds that cannot be embedded are left out before that is an error.
        jobs: files under way at once.
        report: is added to while the clips are made.
        on_progress: called with the report after each sound.

    Yields:
        Clips in the order of `sounds`; what is bad is left out.

    Raises:
        AudioError: more than `max_bad` sounds are bad; the message names them.
        FrameFileError: the cache cannot be written.
        OptionError: the extractor gives other values than uint8 frames.
        MissingPackageError: the resampler is not installed.
    """
    if extractor.options.values != "uint8":
        raise OptionError(
            f"heads are trained on uint8 frames. Received: values={extractor.options.values!r}"
        )
    report = EmbedReport() if report is None else report
    report.n_clips += len(sounds.clips)
    frames_cache = FrameCache(audiotag_home() / "frames" if cache is None else cache, extractor)
    n_bad = 0
    with contextlib.closing(_make_each(sounds.clips, extractor, frames_cache, jobs)) as each:
        for sound, made in each:
            _count(report, sound, made)
            if made.clip is None:
                n_bad += 1
            if n_bad > max_bad:
                raise AudioError(_too_many(report.bad[-n_bad:], max_bad))
            if on_progress is not None:
                on_progress(report)
            if made.clip is not None:
                embedder = str(made.clip.metadata["embedder"]["name"])
                frames = cast("Frames", made.clip.frames)
                yield Clip(sound.clip_id, frames, sound.labels, embedder, sound.where)


def _count(report: EmbedReport, sound: AudioClip, made: _Made) -> None:
    if made.clip is None:
        report.bad.append(BadRecord(sound.where, made.reason))
        return
    report.n_cached += made.is_cached
    report.n_embedded += not made.is_cached
    report.warnings += [(sound.where, warning) for warning in made.clip.metadata["warnings"]]


def _too_many(bad: Sequence[BadRecord], max_bad: int) -> str:
    lines = [reason if where in reason else f"{where}: {reason}" for where, reason in bad]
    hint = "leave out up to N such sounds and go on: --max-bad N"
    if not max_bad:
        return f"{lines[0]}\nTo {hint}"
    return f"{len(bad)} sounds cannot be embedded, and {max_bad} may; to {hint}\n{first_few(lines)}"


def _make_each(
    sounds: Sequence[AudioClip], extractor: Extractor, cache: FrameCache, jobs: int
) -> Generator[tuple[AudioClip, _Made]]:
    """Each sound with what became of it, in order; files are worked on `jobs` at a time."""

    def make(parts: list[AudioClip], check_stop: Callable[[], None]) -> dict[AudioClip, _Made]:
        return _make(parts, extractor, cache, lambda *_: check_stop())

    files = (list(parts) for _, parts in itertools.groupby(sounds, lambda sound: sound.path))
    with contextlib.closing(
        map_in_order(make, files, jobs=jobs, name="audiotag-sounds")
    ) as results:
        for parts, future in results:
            made = future.result()
            yield from ((sound, made[sound]) for sound in parts)


def _make(
    parts: list[AudioClip], extractor: Extractor, cache: FrameCache, on_progress: Progress
) -> dict[AudioClip, _Made]:
    """What becomes of the sounds of one file."""
    path = parts[0].path
    made: dict[AudioClip, _Made] = {}
    try:
        checksum = sha256_of(path)
        keys = {sound: cache.key(checksum, sound) for sound in parts}
        for sound, key in keys.items():
            clip = cache.get(key)
            if clip is not None:
                made[sound] = _Made(clip, is_cached=True)
        left = [sound for sound in parts if sound not in made]
        for sound, result in _embed_file(path, left, extractor, on_progress):
            made[sound] = result
            if result.clip is not None:
                cache.put(keys[sound], result.clip)
    except AudioError as error:
        made.update({sound: _Made(None, str(error)) for sound in parts if sound not in made})
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror or error}"
        made.update({sound: _Made(None, reason) for sound in parts if sound not in made})
    return made


def _embed_file(
    path: Path, sounds: Sequence[AudioClip], extractor: Extractor, on_progress: Progress
) -> Iterator[tuple[AudioClip, _Made]]:
    for sound in sounds:
        if sound.is_whole:
            yield sound, _checked(extractor(path, on_progress=on_progress))
    for row in drop_overlaps([sound for sound in sounds if not sound.is_whole]):
        with open_audio(path) as stream:
            reader = Reader(stream)
            for sound in row:
                yield sound, _embed_part(reader, sound, extractor, on_progress)


def _embed_part(
    reader: Reader, sound: AudioClip, extractor: Extractor, on_progress: Progress
) -> _Made:
    whole, end = reader.stream, sound.end_seconds
    decoder = PartDecoder(reader, sound)
    part = AudioStream(whole.name, decoder, None)
    try:
        blocks = list(extractor.stream(part, on_progress))
    except EmptyAudioError:
        if reader.seconds == 0:
            raise
        return _Made(
            None,
            f"its start, {sound.start_seconds:g} s, is not before the end of {whole.name}, "
            f"{reader.seconds:.2f} s",
        )
    warnings = whole.warnings
    if end is not None and end - reader.seconds > PATCH_SECONDS / 2:
        warnings.append(
            f"its end, {end:g} s, is after that of {whole.name}, {reader.seconds:.2f} s"
        )
    metadata = {
        **extractor.provenance,
        "duration_seconds": round(part.seconds_read, 6),
        "source": {"name": whole.name, "start_seconds": sound.start_seconds, "end_seconds": end},
        "warnings": warnings,
    }
    frames = np.concatenate(
        [np.zeros((0, EMBEDDING_SIZE), np.uint8), *cast("list[Frames]", blocks)]
    )
    return _checked(ClipFrames("", frames, extractor.start_seconds(len(frames)), metadata))


def _checked(clip: ClipFrames) -> _Made:
    if len(clip):
        return _Made(clip)
    return _Made(None, f"{clip.metadata['duration_seconds']:g} s are too short for a frame")
