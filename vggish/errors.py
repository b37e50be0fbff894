"""Every error audiotag raises on purpose, in one tree.

    AudiotagError
    ├── OptionError                 an option that cannot be honoured
    ├── MissingPackageError         an optional package is not installed
    ├── AudioError                  sound that cannot be read
    │   ├── EmptyAudioError         ... because there is none in it
    │   ├── AudioLimitError         ... because it is more than may be
    │   └── AudioTimeoutError       ... because decoding did not end in time
    ├── WeightsError                weights that are absent, damaged or wrong
    │   ├── WeightsNotInstalledError
    │   ├── DownloadError
    │   └── ConversionError
    ├── FrameFileError              a file of embeddings that cannot be read or written
    │   └── ResumeError             a journal that does not fit this run
    ├── TrainingError               training that cannot begin, or that went wrong
    ├── RunError                    a directory of a training run that is no good for this
    ├── BundleError                 a bundle that is absent, damaged, or not fit for its use
    ├── ListenError                 an address that the service cannot listen on
    └── ServiceError                a remote service that refuses, fails, or is none of ours
        └── ServiceUnreachableError ... or that is not there

Messages say what is wrong, the value received, and what to do next.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike


class AudiotagError(Exception):
    """Root of all errors that audiotag raises on purpose."""


class OptionError(AudiotagError, ValueError):
    """An option or argument has a value that cannot be honoured."""


class MissingPackageError(AudiotagError, ImportError):
    """An optional package is needed and not installed; the message holds the pip line."""


class AudioError(AudiotagError):
    """Sound that cannot be read: no such file, unknown format, damaged, no ffmpeg."""


class EmptyAudioError(AudioError):
    """A readable file that holds no samples."""


class AudioLimitError(AudioError):
    """Sound that is longer, or has more channels or a higher rate, than may be."""


class AudioTimeoutError(AudioError):
    """Sound whose decoding did not end before the deadline."""


class WeightsError(AudiotagError):
    """Weights that are absent, damaged, or not what they should be."""


class WeightsNotInstalledError(WeightsError):
    """The weights have not been fetched or installed yet."""


class DownloadError(WeightsError):
    """A download that failed, or that gave something else than what was asked for."""


class ConversionError(WeightsError):
    """A checkpoint that could not be converted, or whose conversion failed its checks."""


class FrameFileError(AudiotagError):
    """A file of embeddings that cannot be read or written."""


class ResumeError(FrameFileError):
    """A journal of an earlier run that does not fit the options of this one."""


class TrainingError(AudiotagError):
    """Training that cannot begin, or that went wrong: no labelled clips, a loss that is NaN."""


class RunError(AudiotagError):
    """A directory of a training run that is absent, damaged, or was made in another way."""


class BundleError(AudiotagError):
    """A bundle that is absent, damaged, or not fit for what it is given."""


class ListenError(AudiotagError):
    """An address that the service cannot listen on: taken, forbidden, or not of this machine."""


class ServiceError(AudiotagError):
    """A remote service refused or failed, or what answered is no audiotag service.

    Attributes:
        status: of the HTTP answer, None if there was none.
        type: of the problem, such as "/problems/too-large"; "about:blank" where none was told.
        title: of the problem, in a few words.
        detail: of the problem: what is wrong and what to do.
        request_id: by which the service's log names the request, "" if it did not say.
        retry_after_seconds: when to try again, as the service said, or None.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        type: str = "about:blank",  # noqa: A002 the problem document's word
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
    """A remote service with which no connection could be made."""


def first_line(error: Exception) -> str:
    """What another library's error says, in one line; its kind if it says nothing."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def unwritable_as(kind: type[AudiotagError], path: str | PathLike[str]) -> Iterator[None]:
    """Around the writing of `path`: turn an error of the system into one of audiotag.

    >>> with unwritable_as(RunError, "curves.csv"):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    vggish.errors.RunError: cannot write curves.csv: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise kind(f"cannot write {path}: {error.strerror or error}") from error
