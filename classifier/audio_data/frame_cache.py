"""Frames of sounds, kept on disk, as embedding is what takes time.

    $AUDIOTAG_HOME/frames/3f/3f9a..c2.npz   the frames of one sound, or of a part of one

The name is a checksum of the sound file's contents, the part, and everything that decides the
values of frames. So a later run embeds only what is new: after a changed CSV, in a moved
folder, after an interruption. An entry is written at once and atomically; a damaged one is made
again. A folder of frames can be deleted at any time.
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
    """Frames on disk, by what they were made from and how. Any number of processes may use it."""

    def __init__(self, directory: Path, extractor: Extractor) -> None:
        self._directory = directory
        provenance = extractor.provenance
        # The network is the same, and its frames as good as, on any device.
        embedder = {k: v for k, v in provenance["embedder"].items() if k != "provider"}
        self._made_by = {**provenance, "embedder": embedder}

    def key(self, checksum: str, clip: AudioClip) -> str:
        """The name of the frames of a sound in a file with this sha256."""
        facts = [checksum, clip.start_seconds, clip.end_seconds, self._made_by]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()

    def get(self, key: str) -> ClipFrames | None:
        """The frames of this name; None where there are none, or they are damaged."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            clip = next(read_frames(path))
        except FrameFileError:
            return None
        return clip if clip.clip_id == key and clip.frames.dtype == np.uint8 else None

    def put(self, key: str, clip: ClipFrames) -> None:
        """Keep frames under this name."""
        try:
            write_frames(self._path(key), replace(clip, clip_id=key))
        except FrameFileError as error:
            raise FrameFileError(
                f"{error}\nEmbedded sounds are kept there; to keep them elsewhere set AUDIOTAG_HOME"
            ) from error

    def _path(self, key: str) -> Path:
        return self._directory / key[:2] / f"{key}.npz"
