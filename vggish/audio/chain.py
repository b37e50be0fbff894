"""Decode the links of a file one after the other, as one piece of audio."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
import numpy.typing as npt
import soxr

from vggish.audio.decoder import Block, Decoder
from vggish.errors import AudioError

_MAX_WARNINGS = 20


class ChainDecoder:
    """A `Decoder` of the links of a file, of which the first is open.

    Links of another sample rate or number of channels are converted to those of the first.
    """

    n_frames: int | None = None

    def __init__(
        self, first: Decoder, following: Sequence[Callable[[], Decoder]], warnings: list[str]
    ) -> None:
        self.sample_rate_hz = first.sample_rate_hz
        self.n_channels = first.n_channels
        self.format = first.format
        self.is_float_pcm = first.is_float_pcm
        self.warnings = warnings
        self._current = first
        self._following = list(following)
        self._n_links = 1 + len(following)
        self._resample: soxr.ResampleStream | None = None
        self._n_read = 0

    def read(self, n_frames: int) -> Block:
        """See `Decoder`."""
        while True:
            block = self._read_link(n_frames)
            if len(block) or not self._open_next():
                self._n_read += len(block)
                return block

    def interrupt(self) -> None:
        """See `Decoder`."""
        self._following.clear()
        self._current.interrupt()

    def close(self) -> None:
        """See `Decoder`."""
        self._current.close()

    def _read_link(self, n_frames: int) -> Block:
        """Read from the current link, at the rate and with the channels of the first."""
        while True:
            try:
                block = self._current.read(n_frames)
            except AudioError as error:  # damaged from the start
                self._warn(str(error))
                block = np.zeros((0, self._current.n_channels), np.float32)
            if block.shape[1] != self.n_channels:
                # Frames are mixed to mono in the end, so that the mean loses nothing.
                mono = block.mean(axis=1, keepdims=True, dtype=np.float32)
                block = np.repeat(mono, self.n_channels, axis=1)
            if self._resample is None:
                return block
            is_last = len(block) == 0
            resampled = self._resample.resample_chunk(block, is_last)
            if is_last:
                self._resample = None
            if is_last or len(resampled):
                return cast("npt.NDArray[np.float32]", resampled)

    def _open_next(self) -> bool:
        """Open the next link that can be decoded; return whether there is one."""
        self._take_warnings()
        while self._following:
            try:
                following = self._following.pop(0)()
            except AudioError as error:
                self._warn(f"a part could not be decoded ({error})")
                continue
            self._current.close()
            self._current = following
            if following.sample_rate_hz != self.sample_rate_hz:
                self._resample = soxr.ResampleStream(
                    following.sample_rate_hz,
                    self.sample_rate_hz,
                    num_channels=self.n_channels,
                    dtype="float32",
                )
            return True
        return False

    def _take_warnings(self) -> None:
        for warning in self._current.warnings:
            self._warn(warning)
        self._current.warnings.clear()

    def _warn(self, warning: str) -> None:
        if len(self.warnings) >= _MAX_WARNINGS:
            self.warnings[_MAX_WARNINGS:] = ["further warnings about its parts are left out"]
            return
        number = self._n_links - len(self._following)
        seconds = self._n_read / self.sample_rate_hz
        self.warnings.append(f"{warning} (part {number} of {self._n_links}, up to {seconds:.2f} s)")
