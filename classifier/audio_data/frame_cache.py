"""Cache of the frames of audio clips, because embedding takes most of the time.

    $AUDIOTAG_HOME/frames/3f/3f9a..c2.npz   frames of one clip

The file name is a checksum of the audio file's contents, the part, and all options and versions
that determine the frames. A later run therefore embeds only new clips, even after the CSV changed
or the files moved. Files are written atomically; damaged ones are replaced. The cache can be
deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from classifier.audio_data.clip_list import AudioClip
from vggish.errors import FrameFileError
from vggish.extractor import Extractor
from vggish.frames.clip import ClipFrames
from vggish.frames.files import read_frames, write_frames


class FrameCache:
    """Directory of frames by key. Several threads and processes may share it."""

    def __init__(self, directory: Path, extractor: Extractor) -> None:
        self._directory = directory
        provenance = extractor.provenance
        # The same network gives equivalent frames on any device.
        embedder = {k: v for k, v in provenance["embedder"].items() if k != "provider"}
        self._provenance = {**provenance, "embedder": embedder}

    def key(self, checksum: str, clip: AudioClip) -> str:
        """Key of the frames of a clip in an audio file with this sha256."""
        facts = [checksum, clip.start_seconds, clip.end_seconds, self._provenance]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> ClipFrames | None:
        """Read frames; None if they are not in the cache, or damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            clip = next(read_frames(path))
        except FrameFileError:
            return None
        return clip if clip.clip_id == key and clip.frames.dtype == np.uint8 else None

    def put(self, key: str, clip: ClipFrames) -> None:
        """Write frames."""
        try:
            write_frames(self._path(key), replace(clip, clip_id=key))
        except FrameFileError as error:
            raise FrameFileError(
                f"{error}\nThis is the cache of frames; to move it, set AUDIOTAG_HOME"
            ) from error

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.npz"
