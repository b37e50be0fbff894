"""Limits on the audio that is decoded."""

from __future__ import annotations

import dataclasses
import time

from vggish.errors import AudioLimitError, AudioTimeoutError, OptionError

# Samples are counted as the float32 that they become, whatever the file has.
DECODED_SAMPLE_BYTES = 4


@dataclasses.dataclass(frozen=True)
class AudioLimits:
    """What a sound may be at most, for those who take sounds from strangers; None for any.

    Attributes:
        max_seconds: of sound.
        max_channels: of the file.
        max_sample_rate_hz: of the file.
        max_decoded_bytes: of all its samples over all channels, 4 bytes each.
        deadline: by `time.monotonic()`, when decoding is given up.

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
        """Refuse a file of too many channels or too high a rate.

        Raises:
            AudioLimitError: it is one.
        """
        _refuse_above(self.max_channels, n_channels, f"{name} has too many channels", "mix it")
        too_high = f"{name} has too high a sample rate, in Hz"
        _refuse_above(self.max_sample_rate_hz, sample_rate_hz, too_high, "resample it")

    def check_length(self, name: str, n_frames: int, sample_rate_hz: int, n_channels: int) -> None:
        """Refuse a sound of `n_frames` samples a channel if that is too much.

        Raises:
            AudioLimitError: it is.
        """
        seconds = n_frames / sample_rate_hz
        _refuse_above(self.max_seconds, seconds, f"{name} is too long, in seconds", "cut it")
        n_bytes = n_frames * n_channels * DECODED_SAMPLE_BYTES
        too_large = f"{name} is too large once decoded, in bytes"
        _refuse_above(self.max_decoded_bytes, n_bytes, too_large, "cut or resample it")

    def check_time(self, name: str) -> None:
        """Give up if it is too late.

        Raises:
            AudioTimeoutError: the deadline is over.
        """
        if self.deadline is not None and time.monotonic() >= self.deadline:
            raise AudioTimeoutError(
                f"{name} was not decoded in time, and given up; send less sound, or a WAV or FLAC "
                "file, which is decoded fast"
            )


def _refuse_above(limit: float | None, received: float, trouble: str, remedy: str) -> None:
    if limit is not None and received > limit:
        raise AudioLimitError(
            f"{trouble}: at most {limit:,.12g} are taken. Received: {received:,.12g} or more; "
            f"{remedy} first"
        )
