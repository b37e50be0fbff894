"""What a decoder provides."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

Block = npt.NDArray[np.float32] | npt.NDArray[np.int16]


class Decoder(Protocol):
    """A file being decoded: its properties, and `read` until it returns no frames."""

    sample_rate_hz: int
    n_channels: int
    n_frames: int | None  # as the header states it
    format: str
    is_float_pcm: bool  # samples are stored as floats, which may lawfully exceed full scale
    warnings: list[str]

    def read(self, n_frames: int) -> Block:
        """Read up to `n_frames` more frames, [n, n_channels]; n is 0 only at the end."""

    def interrupt(self) -> None:
        """End a `read` that waits in another thread."""

    def close(self) -> None:
        """Stop decoding."""
