"""Journal of a run: the inputs that are finished, so that an interrupted run can continue.

One JSON object per line. The first line holds the fingerprint: all options that decide the
contents of the outputs. Each other line is a finished input. An incomplete last line is ignored,
and its input is processed again.
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import filelock

from vggish.common.search import STDIN
from vggish.errors import ResumeError

_FORMAT = "audiotag_journal"
# Size in bytes and modification time in ns; None for a source that can be read only once.
SourceState = tuple[int, int] | None


@dataclass(frozen=True)
class JournalEntry:
    """A finished input: its path as given, the clip's id, and its record's bytes in the spool.

    `state` is the `source_state` before the source was read. An input whose state is None or has
    changed is processed again.
    """

    source: str
    clip_id: str
    state: SourceState
    start: int = 0
    end: int = 0


@dataclass(frozen=True)
class Journal:
    """An open journal. `entries` holds the finished inputs by source."""

    path: Path
    entries: dict[str, JournalEntry]
    _file: IO[str]
    _lock: filelock.BaseFileLock

    def add(self, entry: JournalEntry) -> None:
        """Append an entry; the operating system has it on return."""
        self.entries[entry.source] = entry
        self._file.write(json.dumps(asdict(entry)) + "\n")
        self._file.flush()

    def find(self, source: str, clip_id: str) -> JournalEntry | None:
        """The entry of a finished source; None if the file or its clip id has changed since."""
        entry = self.entries.get(source)
        if entry is None or entry.state is None:
            return None
        unchanged = (entry.clip_id, entry.state) == (clip_id, source_state(source))
        return entry if unchanged else None

    def close(self, *, keep: bool) -> None:
        """Close the journal, and remove it unless `keep`."""
        self._file.close()
        if not keep:
            self.path.unlink(missing_ok=True)
        _release(self._lock)


def open_journal(path: Path, fingerprint: dict[str, Any], *, resume: bool) -> Journal:
    """Start a journal, or with `resume` continue an existing one.

    The fingerprint has the options that decide the contents of the outputs, ready for JSON. An
    existing journal without `resume`, or of another fingerprint, is a `ResumeError`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Held for the life of this process, so that no second one uses the journal.
    lock = filelock.FileLock(path.with_name(f"{path.name}.lock"))
    try:
        # Some network file systems have no locks.
        with contextlib.suppress(NotImplementedError):
            lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise ResumeError(
            f"another run is writing to this destination now (lock: {lock.lock_file})"
        ) from error
    try:
        entries = _read_entries(path, fingerprint, resume=resume)
        # Rewritten in full: an incomplete last line would corrupt the line appended to it.
        partial = path.with_name(f"{path.name}.partial")
        with open(partial, "w", encoding="utf-8") as out:
            out.write(json.dumps({_FORMAT: fingerprint}) + "\n")
            out.writelines(json.dumps(asdict(entry)) + "\n" for entry in entries.values())
        partial.replace(path)
        return Journal(path, entries, open(path, "a", encoding="utf-8"), lock)
    except BaseException:
        _release(lock)
        raise


def source_state(source: str) -> SourceState:
    """Size and modification time of a file; None for standard input, pipes and missing files."""
    try:
        status = os.stat(source)
    except (OSError, ValueError):
        return None
    is_file = stat.S_ISREG(status.st_mode) and source != STDIN
    return (status.st_size, status.st_mtime_ns) if is_file else None


def _release(lock: filelock.BaseFileLock) -> None:
    Path(lock.lock_file).unlink(missing_ok=True)
    lock.release()


def _read_entries(
    path: Path, fingerprint: dict[str, Any], *, resume: bool
) -> dict[str, JournalEntry]:
    lines: list[str] = []
    if path.exists():
        with open(path, encoding="utf-8", errors="replace") as file:
            lines = [line for line in file if line.endswith("\n")]
    if len(lines) <= 1:
        return {}
    if not resume:
        raise ResumeError(
            f"an unfinished run left its journal at {path}: add --resume to continue it, or delete "
            "that file to start again"
        )
    try:
        before = json.loads(lines[0])[_FORMAT]
        entries = {entry.source: entry for entry in map(_parse, lines[1:])}
    except (ValueError, KeyError, TypeError) as error:
        raise ResumeError(f"{path} is not an audiotag journal: {error}") from error
    changes = _changes(before, json.loads(json.dumps(fingerprint)))
    if changes:
        # "auto" may choose another embedder than before, if VGGish was installed meanwhile.
        then, now = (options.get("embedder", {}).get("name") for options in (before, fingerprint))
        hint = f" (--embedder {then})" if then and then != now else ""
        raise ResumeError(
            "cannot resume with options that differ from those of the unfinished run:\n"
            + "\n".join(f"  {line}" for line in changes)
            + f"\nUse the same options{hint}, or delete {path} to start again"
        )
    return entries


def _parse(line: str) -> JournalEntry:
    entry = json.loads(line)
    state = entry["state"]
    return JournalEntry(**{**entry, "state": None if state is None else tuple(state)})


def _changes(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Differences between two fingerprints, one line each."""
    lines = []
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            lines += _changes(old, new, f"{prefix}{key}.")
        elif old != new:
            lines.append(f"{prefix}{key}: was {old!r}, is now {new!r}")
    return lines
