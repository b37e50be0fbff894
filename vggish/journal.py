"""The journal of a run: what is done, so that a killed run can go on.

One JSON object a line. The first holds the fingerprint: everything that decides what the
outputs contain. Each other line is an input that was finished. A line that a kill cut off is
ignored, and its input done again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vggish.errors import ResumeError
from vggish.inputs import STDIN

_FORMAT = "audiotag_journal"


@dataclass(frozen=True)
class Done:
    """An input that was finished.

    Attributes:
        source: path as it was given.
        size, mtime_ns: of the source at that time; a changed source is done again.
        output: path of its output, or of the spool.
        end: size of the spool after it; 0 where each input has an output of its own.
    """

    source: str
    size: int
    mtime_ns: int
    output: str
    end: int


class Journal:
    """An open journal. `done` holds what earlier runs finished; `add` appends to it."""

    def __init__(self, path: Path, file: IO[str], done: dict[str, Done]) -> None:
        self.path = path
        self.done = done
        self._file = file

    def add(self, source: str, output: Path, end: int = 0) -> None:
        """Note that `source` is finished; on disk, as far as this process decides, on return."""
        size, mtime_ns = source_state(source)
        done = Done(source, size, mtime_ns, str(output), end)
        self.done[source] = done
        self._file.write(json.dumps(asdict(done)) + "\n")
        self._file.flush()

    def is_done(self, source: str) -> bool:
        """Whether `source` was finished and has not changed since."""
        done = self.done.get(source)
        return (
            done is not None
            and (done.size, done.mtime_ns) == source_state(source)
            and os.path.exists(done.output)
        )

    def close(self, *, keep: bool) -> None:
        """Close the journal, and remove it unless it is to be kept."""
        self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)


def open_journal(path: Path, fingerprint: dict[str, Any], *, resume: bool) -> Journal:
    """Begin a journal, or go on with one.

    Args:
        path: of the journal.
        fingerprint: JSON-ready; what decides the contents of the outputs.
        resume: go on with the journal that is there, if one is.

    Raises:
        ResumeError: there is one and `resume` is False; or it belongs to other options, which
            the message lists; or it is no journal.
    """
    lines = list(_whole_lines(path)) if path.exists() else []
    if lines and not resume:
        raise ResumeError(
            f"an unfinished run left its journal at {path}: "
            f"add --resume to go on with it, or delete that file to begin again"
        )
    done: dict[str, Done] = {}
    if lines:
        try:
            before = json.loads(lines[0])[_FORMAT]
            each = [Done(**json.loads(line)) for line in lines[1:]]
        except (ValueError, KeyError, TypeError) as error:
            raise ResumeError(f"{path} is no journal of audiotag: {error}") from error
        changed = _differences(before, json.loads(json.dumps(fingerprint)))
        if changed:
            raise ResumeError(
                "cannot resume with other options than those of the unfinished run:\n"
                + "\n".join(f"  {line}" for line in changed)
                + f"\nUse the same options, or delete {path} to begin again"
            )
        done = {entry.source: entry for entry in each}
    path.parent.mkdir(parents=True, exist_ok=True)
    # Rewritten whole, so that a line cut off by a kill does not swallow the next one.
    partial = path.with_name(f"{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as out:
        out.write(json.dumps({_FORMAT: fingerprint}) + "\n")
        out.writelines(json.dumps(asdict(entry)) + "\n" for entry in done.values())
    os.replace(partial, path)
    return Journal(path, open(path, "a", encoding="utf-8"), done)


def source_state(source: str) -> tuple[int, int]:
    """Size and modification time of a source; (-1, -1) for what is no file."""
    if source == STDIN:
        return -1, -1
    try:
        status = os.stat(source)
    except OSError:
        return -1, -1
    return status.st_size, status.st_mtime_ns


def _whole_lines(path: Path) -> Iterator[str]:
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.endswith("\n"):
                yield line


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: {old!r} then, {new!r} now")
    return lines
