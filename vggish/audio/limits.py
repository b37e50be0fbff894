"""Limits on the audio that is decoded."""

from __future__ import annotations

import dataclasses
import time

from vggish.errors import AudioLimitError, AudioTimeoutError, OptionError


@dataclasses.dataclass(frozen=True)
class AudioLimits:
    """Limits for audio from untrusted sources; None for no limit.

    Attributes:
        max_seconds: duration.
        max_channels: number of channels of the file.
        max_sample_rate_hz: sample rate of the file.
        max_decoded_bytes: size of all samples of all channels as float32, 4 bytes each.
        deadline: when decoding is aborted, as `time.monotonic()` counts.

    Raises:
        OptionError: a limit is not positive.
    """

    max_seconds: float | None = None
    max_channels: int | None = None
    max_sample_rate_hz: int | None = None
    max_decoded_bytes: int | None = None
    deadline: float | None = None

    def __post_init__(self) -> None:
        for name, limit in dataclasses.asdict(self).items():
            if limit is not None and not limit > 0:
                raise OptionError(f"{name} must be more than 0, or None. Received: {limit!r}")

    def check_format(self, name: str, sample_rate_hz: int, n_channels: int) -> None:
        """Raise `AudioLimitError` for too many channels or too high a sample rate."""
        _check(self.max_channels, n_channels, f"{name} has too many channels", "mix it")
        too_high = f"{name} has too high a sample rate, in Hz"
        _check(self.max_sample_rate_hz, sample_rate_hz, too_high, "resample it")

    def check_length(self, name: str, n_frames: int, sample_rate_hz: int, n_channels: int) -> None:
        """Raise `AudioLimitError` if `n_frames` samples per channel are too many."""
        too_long = f"{name} is too long, in seconds"
        _check(self.max_seconds, n_frames / sample_rate_hz, too_long, "cut it")
        too_large = f"{name} is too large after decoding, in bytes"
        _check(self.max_decoded_bytes, 4 * n_frames * n_channels, too_large, "cut or resample it")

    def check_time(self, name: str) -> None:
        """Raise `AudioTimeoutError` after the deadline."""
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise AudioTimeoutError(
                f"decoding {name} took too long and was aborted; send a shorter clip, or a WAV or "
                "FLAC file, which decodes fast"
            )


def _check(limit: float | None, received: float, problem: str, remedy: str) -> None:
    if limit is not None and received > limit:
        raise AudioLimitError(
            f"{problem}: at most {limit:,.12g} are allowed. Received: {received:,.12g} or more; "
            f"{remedy} first"
        )
