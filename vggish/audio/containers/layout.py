"""What is known of the audio in a file: stretches that decode on their own."""

from __future__ import annotations

from dataclasses import dataclass

# A hostile file may be joined from very many parts; more are not decoded.
MAX_LINKS = 4_000


@dataclass(frozen=True)
class Link:
    """A stretch of a file that decodes on its own.

    Attributes:
        start: first byte of the stretch.
        end: byte after the last one of the stretch.
        prefix: a header, which takes the place of the file's own one.
        n_frames: number of samples per channel; None if only the decoder knows.
        may_have_more: whether audio may follow after `n_frames`.
        format_name: name of the container, if `prefix` is of another one.
    """

    start: int
    end: int
    prefix: bytes = b""
    n_frames: int | None = None
    may_have_more: bool = False
    format_name: str | None = None


@dataclass(frozen=True)
class Found:
    """The audio of one file among those that may have been joined.

    Attributes:
        links: in order.
        warnings: sentences about damage and about bytes that are not decoded.
        next_file: where a further file begins; None if none does.
    """

    links: tuple[Link, ...]
    warnings: tuple[str, ...] = ()
    next_file: int | None = None


@dataclass(frozen=True)
class Layout:
    """The audio of a file.

    Attributes:
        links: in order; None if nothing is known of the format.
        warnings: see `Found`.
        n_streams: number of audio streams that run at the same time.
    """

    links: tuple[Link, ...] | None
    warnings: tuple[str, ...] = ()
    n_streams: int = 1
