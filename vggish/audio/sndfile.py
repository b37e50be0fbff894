"""Decode with libsndfile, through `soundfile`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from vggish.audio.containers import Link, LinkFile
from vggish.audio.decoder import Block
from vggish.errors import AudioError

if TYPE_CHECKING:
    import soundfile  # imported late: it loads libsndfile

# A read that reaches damage returns nothing; audio before it is read in steps of this size.
_SALVAGE_FRAMES = 64


class SoundFileDecoder:
    """A `Decoder` of a file, or of one link of it, that reads strictly forward.

    `n_guessed` is the number of frames at which libsndfile ends although the link has more; None
    if it reads all.
    """

    def __init__(self, path: str, link: Link | None, *, as_float: bool = False) -> None:
        import soundfile

        class ForwardFile(soundfile.SoundFile):  # type: ignore[misc]
            def seekable(self) -> bool:
                # soundfile would seek after each read. That fails in FLAC of unknown length, and
                # resets an MP3 decoder, so that each block would begin with noise.
                return False

        self._contents: list[LinkFile] = []

        def open_file() -> soundfile.SoundFile:
            if link is None:
                # Bytes, as names need not be valid UTF-8; Windows expects text.
                return ForwardFile(path if os.name == "nt" else os.fsencode(path))
            self._contents.append(LinkFile(path, link))
            return ForwardFile(self._contents[-1])

        self._open: Callable[[], soundfile.SoundFile] = open_file
        self._library_error = soundfile.LibsndfileError
        try:
            self._file = self._open()
        except TypeError as error:
            # For names of headerless formats, soundfile asks for the rate and channels.
            raise AudioError("raw samples without a header; convert them to WAV first") from error
        except soundfile.LibsndfileError as error:
            self._close_contents()
            reason = error.error_string
            # libsndfile says "does not exist" of files too short to have a format.
            raise AudioError("unknown format" if "not exist" in reason else reason) from error
        self.sample_rate_hz = self._file.samplerate
        self.n_channels = self._file.channels
        self.container = (link and link.format_name) or self._file.format
        self.format = f"{self.container}/{self._file.subtype}"
        self.is_float_pcm = self._file.subtype in {"FLOAT", "DOUBLE"}
        # libsndfile reports 2^63 - 1 frames if the header does not state their number.
        n_frames = self._file.frames if self._file.frames < 1 << 62 else None
        stated = link.n_frames if link is not None else None
        is_short = stated is not None and n_frames is not None and n_frames < stated
        self.n_guessed: int | None = n_frames if is_short else None
        self.n_frames: int | None = n_frames if stated is None or is_short else stated
        self._may_have_more = link is not None and link.may_have_more
        # 16-bit samples skip a conversion: the mean over channels is exact in float32.
        is_int16 = self._file.subtype == "PCM_16" and not as_float
        self._dtype = "int16" if is_int16 else "float32"
        self._n_read = 0
        self._at_end = False
        self.warnings: list[str] = []

    def read(self, n_frames: int) -> Block:
        """See `Decoder`."""
        is_beyond = False  # the number of frames that the header states
        if self.n_frames is not None:
            # Tags may follow the last frame; they must not be reported as damage.
            n_left = self.n_frames - self._n_read
            is_beyond = n_left <= 0 and self._may_have_more
            n_frames = min(n_frames, _SALVAGE_FRAMES if is_beyond else n_left)
        if self._at_end or n_frames <= 0:
            return np.zeros((0, self.n_channels), self._dtype)
        try:
            block = self._read(n_frames)
        except self._library_error as error:
            self._at_end = True
            if is_beyond:
                return np.zeros((0, self.n_channels), self._dtype)
            block = self._before_damage(n_frames)
            self._n_read += len(block)
            if self._n_read == 0:
                raise AudioError(f"damaged from the start: {error.error_string}") from error
            self._warn_damaged(error.error_string)
            return block
        self._n_read += len(block)
        if is_beyond:
            self.n_frames = None  # the header was wrong
        if len(block) == 0:
            self._at_end = True
            if self.n_frames and self._n_read < self.n_frames:
                self._warn_damaged("the rest is missing")
        return block

    def interrupt(self) -> None:
        """Do nothing: reading takes milliseconds."""

    def close(self) -> None:
        """See `Decoder`."""
        self._file.close()
        self._close_contents()

    def _close_contents(self) -> None:
        while self._contents:
            self._contents.pop().close()

    def _read(self, n_frames: int) -> Block:
        block: Block = self._file.read(n_frames, dtype=self._dtype, always_2d=True)
        return block

    def _before_damage(self, n_frames: int) -> Block:
        """Read the block again, up to the damage."""
        self.close()
        self._file = self._open()
        blocks: list[npt.NDArray[Any]] = [np.zeros((0, self.n_channels), self._dtype)]
        with contextlib.suppress(self._library_error):
            n_left = self._n_read
            while n_left > 0:
                n_left -= len(self._read(min(n_left, n_frames))) or n_left
            for _ in range(0, n_frames, _SALVAGE_FRAMES):
                blocks.append(self._read(_SALVAGE_FRAMES))
        return cast("Block", np.concatenate(blocks))

    def _warn_damaged(self, reason: str) -> None:
        read = f"{self._n_read / self.sample_rate_hz:.2f} s"
        if self.n_frames is not None:
            read += f" of {self.n_frames / self.sample_rate_hz:.2f} s"
        self.warnings.append(f"truncated or damaged: {read} could be read ({reason.rstrip('.')})")
