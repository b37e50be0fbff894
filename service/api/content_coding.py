"""Decode bodies that clients have compressed: `Content-Encoding` (RFC 9110, 8.4)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from service.problems import Problem

# Window sizes of zlib that select the format.
_GZIP, _ZLIB, _RAW_DEFLATE = 31, 15, -15
_PIECE_BYTES = 1 << 16
ACCEPTED = ("gzip", "deflate", "identity")


class BodyDecoder:
    """Decodes a body piece by piece, in bounded memory.

    Args:
        content_encoding: the header; "" if there is none.

    Raises:
        Problem: the coding is not one of `ACCEPTED`.
    """

    def __init__(self, content_encoding: str) -> None:
        codings = [name.strip().lower() for name in content_encoding.split(",")]
        codings = [name for name in codings if name not in ("", "identity")]
        self._coding = codings[0].removeprefix("x-") if codings else ""
        if len(codings) > 1 or self._coding not in ("", "gzip", "deflate"):
            raise Problem(
                "unsupported-media-type",
                f"bodies with the content encoding {content_encoding[:64]!r} are not decoded; send "
                "the audio as it is, or with the content encoding gzip or deflate",
                headers={"Accept-Encoding": ", ".join(ACCEPTED)},
            )
        self._inflate = zlib.decompressobj(_GZIP) if self._coding == "gzip" else None

    def feed(self, piece: bytes) -> Iterator[bytes]:
        """Decode a piece into pieces of at most 64 KiB."""
        if not self._coding:
            yield piece
            return
        has_more = False  # output, beyond what was taken
        while piece or has_more:
            if self._inflate is None:
                # Some clients send deflate without the header of zlib, whose low bits are 8.
                is_zlib = piece[0] & 0x0F == 8
                self._inflate = zlib.decompressobj(_ZLIB if is_zlib else _RAW_DEFLATE)
            elif self._inflate.eof:
                if self._coding != "gzip":
                    raise self._invalid("bytes follow after its end")
                self._inflate = zlib.decompressobj(_GZIP)  # gzip files may be joined
            try:
                decoded = self._inflate.decompress(piece, _PIECE_BYTES)
            except zlib.error as error:
                raise self._invalid(str(error)) from error
            has_more = len(decoded) == _PIECE_BYTES and not self._inflate.eof
            piece = self._inflate.unconsumed_tail or self._inflate.unused_data
            if decoded:
                yield decoded

    def finish(self) -> None:
        """Check that the body is complete."""
        if self._coding and (self._inflate is None or not self._inflate.eof):
            raise self._invalid("it ends early")

    def _invalid(self, reason: str) -> Problem:
        return Problem(
            "bad-request",
            f"the body cannot be decoded as {self._coding}, which its content encoding says it "
            f"is: {reason}",
        )
