"""The exceptions that audiotag raises on purpose, in one tree.

    AudiotagError
    ├── OptionError                 an option or argument has an invalid value
    ├── MissingPackageError         an optional package is not installed
    ├── AudioError                  audio cannot be read
    │   ├── EmptyAudioError         ... because it holds no samples
    │   ├── NoSuchStreamError       ... because it lacks the audio stream that was chosen
    │   ├── AudioLimitError         ... because it exceeds a limit
    │   └── AudioTimeoutError       ... because decoding took too long
    ├── WeightsError                weights are missing, damaged or wrong
    │   ├── WeightsNotInstalledError
    │   ├── DownloadError
    │   └── ConversionError
    ├── FrameFileError              a frames file cannot be read or written
    │   └── ResumeError             a journal does not fit this run
    ├── TrainingError               training cannot start, or failed
    ├── RunError                    the directory of a training run cannot be used
    ├── BundleError                 a bundle is missing, damaged, or unsuitable
    ├── ListenError                 the service cannot listen on an address
    └── ServiceError                a remote service refused a request, or failed
        └── ServiceUnreachableError ... or could not be reached

Messages say what is wrong, the value received, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class AudiotagError(Exception):
    """Base class of all errors that audiotag raises on purpose."""


class OptionError(AudiotagError, ValueError):
    """An option or argument has an invalid value."""


class MissingPackageError(AudiotagError, ImportError):
    """An optional package is not installed; the message has the pip command."""


class AudioError(AudiotagError):
    """Audio cannot be read: no such file, unknown format, damaged, or no ffmpeg."""


class EmptyAudioError(AudioError):
    """A readable file holds no samples."""


class NoSuchStreamError(AudioError):
    """A file does not have the audio stream that was chosen."""


class AudioLimitError(AudioError):
    """Audio exceeds a limit on its duration, channels, sample rate or size."""


class AudioTimeoutError(AudioError):
    """Audio was not decoded before the deadline."""


class WeightsError(AudiotagError):
    """Weights are missing, damaged, or not the expected ones."""


class WeightsNotInstalledError(WeightsError):
    """Weights are not installed."""


class DownloadError(WeightsError):
    """A download failed, or the server sent another file."""


class ConversionError(WeightsError):
    """A checkpoint could not be converted, or its conversion failed a check."""


class FrameFileError(AudiotagError):
    """A frames file cannot be read or written."""


class ResumeError(FrameFileError):
    """The journal of an earlier run does not fit the options of this run."""


class TrainingError(AudiotagError):
    """Training cannot start, or failed: no labelled clips, or a NaN loss."""


class RunError(AudiotagError):
    """The directory of a training run is missing, damaged, or of a different run."""


class BundleError(AudiotagError):
    """A bundle is missing, damaged, or unsuitable for its input."""


class ListenError(AudiotagError):
    """The service cannot listen on an address: in use, forbidden, or of another machine."""


class ServiceError(AudiotagError):
    """A remote service refused a request or failed, or is not an audiotag service.

    `status` is the HTTP status, None if there was no response. `type`, such as
    "/problems/too-large", `title` and `detail` are those of the problem document (RFC 9457).
    `request_id` is the request's id in the service's log. All are "about:blank", "" or None if the
    service does not state them.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str = "about:blank",  # noqa: A002 the word of problem documents
        title: str = "",
        detail: str = "",
        request_id: str = "",
        retry_after_seconds: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.title = title
        self.detail = detail
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds


class ServiceUnreachableError(ServiceError):
    """No connection to a remote service could be made."""


def first_line(error: Exception) -> str:
    """The first line of another library's error message; its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def write_errors_as(kind: type[AudiotagError], path: str | PathLike[str]) -> Iterator[None]:
    """Convert an `OSError` raised while `path` is written to an error of audiotag.

    >>> with write_errors_as(RunError, "curves.csv"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    vggish.errors.RunError: cannot write curves.csv: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {path}: {error.strerror or error}") from error
