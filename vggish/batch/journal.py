"""The journal of a run: what is done, so that a killed run can go on.

One JSON object a line. The first holds the fingerprint: everything that decides what the
outputs contain. Each other line is an input that was finished. A line that a kill cut off is
ignored, and its input done again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from vggish.audio.inputs import STDIN
from vggish.errors import ResumeError

_FORMAT = "audiotag_journal"


@dataclass(frozen=True)
class Done:
    """An input that was finished.

    Attributes:
        source: path as it was given.
        clip_id: its name among the inputs of that time.
        state: `source_state` before it was read; what changed since, or has none, is done again.
        start, end: where its record is in the spool; 0 where each input has its own output.
    """

    source: str
    clip_id: str
    state: tuple[int, int] | None
    start: int = 0
    end: int = 0


class Journal:
    """An open journal. `done` holds what was finished, by source; `add` appends to it."""

    def __init__(self, path: Path, file: IO[str], done: dict[str, Done], lock: Any) -> None:
        self.path = path
        self.done = done
        self._file = file
        self._lock = lock

    def add(self, done: Done) -> None:
        """Note that an input is finished; handed to the system on return."""
        self.done[done.source] = done
        self._file.write(json.dumps(asdict(done)) + "\n")
        self._file.flush()

    def find(self, source: str, clip_id: str) -> Done | None:
        """The entry of `source`, if it was finished and has neither changed nor moved since."""
        done = self.done.get(source)
        if done is None or done.state is None:
            return None
        unchanged = (done.clip_id, done.state) == (clip_id, source_state(source))
        return done if unchanged else None

    def close(self, *, keep: bool) -> None:
        """Close the journal, and remove it unless it is to be kept."""
        self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)
        _release(self._lock)


def open_journal(path: Path, fingerprint: dict[str, Any], *, resume: bool) -> Journal:
    """Begin a journal, or go on with one.

    Args:
        path: of the journal.
        fingerprint: JSON-ready; what decides the contents of the outputs.
        resume: go on with the journal that is there, if one is.

    Raises:
        ResumeError: there is one and `resume` is False; or it belongs to other options, which
            the message lists; or to a run that still goes on; or it is no journal.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(path)
    try:
        done = _read_done(path, fingerprint, resume=resume)
        # Rewritten whole, so that a line cut off by a kill does not swallow the next one.
        partial = path.with_name(f"{path.name}.partial")
        with open(partial, "w", encoding="utf-8") as out:
            out.write(json.dumps({_FORMAT: fingerprint}) + "\n")
            out.writelines(json.dumps(asdict(entry)) + "\n" for entry in done.values())
        partial.replace(path)
        return Journal(path, open(path, "a", encoding="utf-8"), done, lock)
    except BaseException:
        _release(lock)
        raise


def source_state(source: str) -> tuple[int, int] | None:
    """Size and modification time in ns of a file; None for what can be read only once."""
    try:
        status = os.stat(source)
    except (OSError, ValueError):
        return None
    is_file = stat.S_ISREG(status.st_mode) and source != STDIN
    return (status.st_size, status.st_mtime_ns) if is_file else None


def _lock(path: Path) -> Any:
    """A lock that this process holds while it lives, so that no second one uses the journal."""
    import filelock

    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ResumeError(f"another run is writing there now; it holds {lock.lock_file}") from error
    except NotImplementedError:  # some network file systems know no locks
        return None
    return lock


def _release(lock: Any) -> None:
    if lock is not None:
        Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _read_done(path: Path, fingerprint: dict[str, Any], *, resume: bool) -> dict[str, Done]:
    lines = list(_whole_lines(path)) if path.exists() else []
    if len(lines) > 1 and not resume:
        raise ResumeError(
            f"an unfinished run left its journal at {path}: "
            f"add --resume to go on with it, or delete that file to begin again"
        )
    if len(lines) <= 1:
        return {}
    try:
        before = json.loads(lines[0])[_FORMAT]
        done = {entry.source: entry for entry in map(_parse, lines[1:])}
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} is no journal of audiotag: {error}") from error
    changed = _differences(before, json.loads(json.dumps(fingerprint)))
    if changed:
        raise ResumeError(
            "cannot resume with other options than those of the unfinished run:\n"
            + "\n".join(f"  {line}" for line in changed)
            + f"\n{_how_to_go_on(before, fingerprint)}, or delete {path} to begin again"
        )
    return done


def _how_to_go_on(before: dict[str, Any], now: dict[str, Any]) -> str:
    # Which embedder was taken need not have been an option: VGGish may be installed since.
    then, name = (options.get("embedder", {}).get("name") for options in (before, now))
    hint = f" (--embedder {then})" if then and then != name else ""
    return f"Use the same options{hint}"


def _parse(line: str) -> Done:
    entry = json.loads(line)
    state = entry["state"]
    return Done(**{**entry, "state": None if state is None else tuple(state)})


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
