"""Reports of `audiotag inspect` on files of frames, bundles and audio files, as text and JSON."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from classifier.frame_data.clips import ReadReport
from classifier.labels import Labels
from vggish.common.wording import one_line, prefix_location, shortened, summarise_paths

# A class with fewer clips is hard to learn, and its metrics vary widely.
FEW_CLIPS = 10
N_NAMED = 15
N_BARS = 12
_BAR_WIDTH = 30


@dataclass(frozen=True)
class FramesInspection:
    """Contents of files of frames."""

    labels: Labels
    report: ReadReport
    n_bytes: int = 0  # of the local files
    # Numbers of clips by: number of frames; number of labels; class index, which may be beyond
    # `labels`; sorted set of two or more labels.
    lengths: Counter[int] = field(default_factory=Counter)
    labels_per_clip: Counter[int] = field(default_factory=Counter)
    examples: Counter[int] = field(default_factory=Counter)
    combinations: Counter[tuple[int, ...]] = field(default_factory=Counter)

    @property
    def is_intact(self) -> bool:
        """Whether all records can be read."""
        return not self.report.bad

    @property
    def n_frames(self) -> int:
        """Number of frames of all clips."""
        return sum(length * n_clips for length, n_clips in self.lengths.items())

    def name_of(self, index: int) -> str:
        """Display name of a class, or its index if it is beyond `labels`."""
        return self.labels.names[index] if index < len(self.labels) else f"class {index}"

    def by_class(self) -> list[tuple[int, int]]:
        """Class indices with their numbers of clips, rarest class first."""
        indices = {*range(len(self.labels)), *self.examples}
        return sorted(((i, self.examples[i]) for i in indices), key=lambda pair: pair[::-1])

    def as_json(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        mids = self.labels.mids
        return {
            "inspected": "frames",
            **self.report.as_json(),
            "n_bytes": self.n_bytes,
            "n_frames": self.n_frames,
            "n_classes": len(self.labels),
            "lengths": _by_number(self.lengths),
            "labels_per_clip": _by_number(self.labels_per_clip),
            "classes": [
                {
                    "index": index,
                    "mid": mids[index] if index < len(mids) else "",
                    "label": self.name_of(index),
                    "n_clips": n_clips,
                }
                for index, n_clips in sorted(self.by_class())
            ],
            "combinations": [
                {"labels": list(map(self.name_of, indices)), "n_clips": n_clips}
                for indices, n_clips in self.combinations.most_common(N_NAMED)
            ],
        }

    def lines(self, max_bad: int = 20) -> list[str]:
        """Format as lines of text, with the first `max_bad` bad records."""
        report = self.report
        embedders = {name or "unknown": n for name, n in report.embedders.items()}
        lines = [
            f"files of frames: {report.n_files:,} ({_size(self.n_bytes)}); "
            f"clips: {report.n_clips:,}; frames: {self.n_frames:,}",
            *_counts_line("kind", report.kinds),
            *_counts_line("embedder", embedders),
        ]
        if self.lengths:
            lines += ["", "frames per clip", *_histogram(self.lengths)]
        if self.examples:
            lines += ["", "labels per clip", *_histogram(self.labels_per_clip)]
            lines += ["", *self._class_lines()]
        if self.combinations:
            lines += ["", f"most frequent combinations of labels, of {len(self.combinations):,}"]
            for indices, n_clips in self.combinations.most_common(10):
                lines.append(f"  {n_clips:8,}  " + " + ".join(map(self.name_of, indices)))
        warnings = replace(report, bad=[]).warnings()
        lines += ["", *warnings] if warnings else []
        return lines + _problem_lines("bad records or files", report.bad, max_bad)

    def _class_lines(self) -> list[str]:
        ranked = self.by_class()
        n_none = sum(n_clips == 0 for _, n_clips in ranked)
        n_few = sum(0 < n_clips < FEW_CLIPS for _, n_clips in ranked)
        lines = [
            f"classes: {len(self.labels):,} (without clips: {n_none:,}; with fewer than "
            f"{FEW_CLIPS}: {n_few:,})"
        ]
        n_unknown = sum(index >= len(self.labels) for index in self.examples)
        if n_unknown:
            lines.append(f"unknown classes: {n_unknown:,}; name the classes with --labels")
        lines += ["", f"{'class':<42} {'clips':>8}"]
        rarest, commonest = ranked[:N_NAMED], ranked[max(len(ranked) - 5, N_NAMED) :]
        rows = [
            f"  {shortened(self.name_of(index), 40):<40} {n_clips:8,}"
            for index, n_clips in rarest + commonest
        ]
        if len(rows) < len(ranked):
            rows.insert(len(rarest), "  ...")
        return lines + rows


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle."""

    name: str
    n_bytes: int | None  # None if the file cannot be read
    state: str  # "fits" or "differs" from its checksum, "missing", or another problem


@dataclass(frozen=True)
class BundleInspection:
    """Contents and state of a bundle."""

    directory: str
    problem: str | None  # why the bundle cannot be loaded
    files: tuple[BundleFile, ...]  # those that the card lists
    card: Mapping[str, Any]  # {} if it cannot be read

    @property
    def is_intact(self) -> bool:
        """Whether the bundle can be loaded."""
        return self.problem is None

    def as_json(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        return {"inspected": "bundle", **asdict(self)}

    def lines(self) -> list[str]:
        """Format as lines of text."""
        lines = [f"bundle {self.directory}: {'valid' if self.is_intact else 'INVALID'}"]
        lines += [f"  {line}" for line in (self.problem or "").splitlines()]
        for key, value in self.card.items():
            lines += _card_lines(key, value) if key != "files" else []
        lines += ["", "files"] if self.files else []
        for file in self.files:
            size = "" if file.n_bytes is None else _size(file.n_bytes)
            lines.append(f"  {file.name:<20} {size:>10}  {file.state}")
        return lines


@dataclass(frozen=True)
class AudioFile:
    """Properties of an audio file from its header, or by decoding it if that lacks the duration."""

    path: str
    format: str = ""
    sample_rate_hz: int = 0
    n_channels: int = 0
    seconds: float = 0.0
    n_frames: int = 0  # that `audiotag embed` makes by default
    warnings: tuple[str, ...] = ()
    error: str | None = None  # why the file cannot be read; all else is then unset


@dataclass(frozen=True)
class AudioInspection:
    """Properties of audio files."""

    files: tuple[AudioFile, ...]

    @property
    def is_intact(self) -> bool:
        """Whether all files can be read."""
        return len(self.readable) == len(self.files)

    @property
    def readable(self) -> list[AudioFile]:
        """The files that can be read."""
        return [file for file in self.files if file.error is None]

    def as_json(self) -> dict[str, Any]:
        """Convert to a JSON object."""
        readable = self.readable
        return {
            "inspected": "audio",
            "n_files": len(self.files),
            "n_bad": len(self.files) - len(readable),
            "duration_seconds": math.fsum(file.seconds for file in readable),
            "n_frames": sum(file.n_frames for file in readable),
            "formats": dict(Counter(file.format for file in readable)),
            "sample_rates_hz": _by_number(Counter(file.sample_rate_hz for file in readable)),
            "channels": _by_number(Counter(file.n_channels for file in readable)),
            "files": [asdict(file) for file in self.files],
        }

    def lines(self, max_files: int = 20) -> list[str]:
        """Format as lines of text, one a file if there are at most `max_files`."""
        found, readable = self.as_json(), self.readable
        lines = [
            f"audio files: {found['n_files']:,} ({duration(found['duration_seconds'])}); "
            f"frames when embedded: {found['n_frames']:,}"
        ]
        if len(self.files) <= max_files:
            for file in readable:
                rate = f"{file.sample_rate_hz:,} Hz, {file.n_channels} ch"
                facts = f"{file.seconds:9.2f} s  {file.n_frames:6,} frames  {rate:<16}"
                lines.append(f"  {facts}  {file.format:<19}  {one_line(file.path)}")
        elif readable:
            rates = {f"{int(rate):,} Hz": n for rate, n in found["sample_rates_hz"].items()}
            lines += _counts_line("format", found["formats"]) + _counts_line("sample rate", rates)
            lines += _counts_line("channels", found["channels"])
            low, median, high = np.quantile([file.seconds for file in readable], (0, 0.5, 1))
            lines.append(f"duration: {low:.2f} to {high:.2f} s, median {median:.2f} s")
        warnings = [(file.path, text) for file in self.files for text in file.warnings]
        errors = [(file.path, file.error) for file in self.files if file.error is not None]
        lines += _problem_lines("warnings", warnings, max_files)
        return lines + _problem_lines("files that cannot be read", errors, max_files)


Inspection = FramesInspection | BundleInspection | AudioInspection


def _by_number(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def binned(counts: Mapping[int, int], n_bins: int = N_BARS) -> list[tuple[str, int]]:
    """Counts in at most `n_bins` equal ranges of integers, with the name of each range."""
    low, high = min(counts), max(counts)
    width = math.ceil((high - low + 1) / n_bins)
    rows = []
    for start in range(low, high + 1, width):
        last = min(start + width - 1, high)
        total = sum(n for number, n in counts.items() if start <= number <= last)
        rows.append((str(start) if start == last else f"{start}-{last}", total))
    return rows


def duration(seconds: float) -> str:
    """Format a duration in seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _counts_line(name: str, counts: Mapping[str, int]) -> list[str]:
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return [f"{name}: " + ", ".join(f"{value} ({n:,})" for value, n in ranked)] if ranked else []


def _problem_lines(title: str, problems: Sequence[tuple[str, str]], n_shown: int) -> list[str]:
    if not problems:
        return []
    lines = [f"  {one_line(prefix_location(where, text))}" for where, text in problems[:n_shown]]
    if len(problems) > n_shown:
        lines.append(f"  ... and {len(problems) - n_shown:,} more")
    return ["", f"{title}: {len(problems):,}", *lines]


def _histogram(counts: Mapping[int, int]) -> list[str]:
    rows = binned(counts)
    highest = max(n for _, n in rows)
    return [
        f"  {name:>9} {n:10,}  {'█' * math.ceil(_BAR_WIDTH * n / highest)}".rstrip()
        for name, n in rows
    ]


def _card_lines(key: str, value: Any, indent: str = "") -> list[str]:
    title = f"{indent}{key.replace('_', ' ')}:"
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {str(number): item for number, item in enumerate(value, start=1)}
    if isinstance(value, Mapping):
        nested = (_card_lines(str(k), v, indent + "  ") for k, v in value.items())
        return [title, *(line for lines in nested for line in lines)]
    if isinstance(value, list):
        value = ", ".join(summarise_paths(list(map(str, value))))
    elif isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    return [f"{title} {value}"]


def _size(n_bytes: float) -> str:
    if n_bytes < 1024:
        return f"{n_bytes:.0f} bytes"
    power = min(3, int(math.log2(n_bytes) // 10))
    return f"{n_bytes / 1024**power:.1f} {('KiB', 'MiB', 'GiB')[power - 1]}"
