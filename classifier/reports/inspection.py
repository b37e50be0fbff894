"""What an inspection found, as JSON and as lines for people."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from classifier.frame_data.clips import ReadReport
from classifier.labels import Labels
from vggish.common.wording import one_line, prefix_location, shortened, summarise_paths

# A class with fewer examples is hard to learn and harder to measure.
FEW_EXAMPLES = 10

N_NAMED = 15

N_BARS = 12

_BAR_WIDTH = 30


@dataclass(frozen=True)
class FramesInspection:
    """What files of frames hold, all of them together.

    Attributes:
        labels: names of the classes.
        report: counts of files, clips, kinds and embedders, and what was bad.
        n_bytes: size of the files, remote ones aside.
        lengths: clips by number of frames.
        labels_per_clip: labelled clips by number of labels.
        examples: clips by class index; classes beyond `labels` may be among them.
        combinations: clips by set of labels, sorted, for sets of two and more.
    """

    labels: Labels
    report: ReadReport
    n_bytes: int = 0
    lengths: Counter[int] = field(default_factory=Counter)
    labels_per_clip: Counter[int] = field(default_factory=Counter)
    examples: Counter[int] = field(default_factory=Counter)
    combinations: Counter[tuple[int, ...]] = field(default_factory=Counter)

    @property
    def is_intact(self) -> bool:
        """Whether nothing is damaged."""
        return not self.report.bad

    @property
    def n_frames(self) -> int:
        """Frames of all clips."""
        return sum(length * n_clips for length, n_clips in self.lengths.items())

    @property
    def is_labelled(self) -> bool:
        """Whether any clip has labels."""
        return bool(self.examples)

    def name_of(self, index: int) -> str:
        """Display name of a class; one beyond the known classes is called by its index."""
        return self.labels.names[index] if index < len(self.labels) else f"class {index}"

    def by_class(self) -> list[tuple[int, int]]:
        """(class index, number of clips), fewest first; known classes, and others that occur."""
        indices = {*range(len(self.labels)), *self.examples}
        counted = [(index, self.examples[index]) for index in indices]
        return sorted(counted, key=lambda pair: (pair[1], pair[0]))

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
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
                    "mid": self.labels.mids[index] if index < len(self.labels) else "",
                    "label": self.name_of(index),
                    "n_clips": n_clips,
                }
                for index, n_clips in sorted(self.by_class())
            ],
            "combinations": [
                {"labels": [self.name_of(index) for index in indices], "n_clips": n_clips}
                for indices, n_clips in self.combinations.most_common(N_NAMED)
            ],
        }

    def lines(self, max_bad: int = 20) -> list[str]:
        """The same for people to read, with the first `max_bad` bad records named."""
        report = self.report
        lines = [
            f"files of frames: {report.n_files:,} ({_size(self.n_bytes)}); "
            f"clips: {report.n_clips:,}; frames: {self.n_frames:,}",
            *_counted("kind", report.kinds),
            *_counted("embedder", {name or "not said": n for name, n in report.embedders.items()}),
        ]
        if self.lengths:
            lines += ["", "frames in a clip", *_bars(self.lengths)]
        if self.is_labelled:
            lines += ["", "labels of a clip", *_bars(self.labels_per_clip)]
            lines += ["", *self._class_lines(), *self._combination_lines()]
        warnings = replace(report, bad=[]).warnings()
        lines += ["", *warnings] if warnings else []
        if report.bad:
            lines += ["", f"bad records or files: {len(report.bad):,}"]
            lines += [f"  {where}: {reason}" for where, reason in report.bad[:max_bad]]
            if len(report.bad) > max_bad:
                lines.append(f"  ... and {len(report.bad) - max_bad:,} more")
        return lines

    def _class_lines(self) -> list[str]:
        ranked = self.by_class()
        n_none = sum(n_clips == 0 for _, n_clips in ranked)
        n_few = sum(0 < n_clips < FEW_EXAMPLES for _, n_clips in ranked)
        n_beyond = sum(index >= len(self.labels) for index in self.examples)
        lines = [
            f"classes: {len(self.labels):,} (without an example: {n_none:,}; with fewer than "
            f"{FEW_EXAMPLES}: {n_few:,})"
        ]
        if n_beyond:
            lines.append(
                f"classes beyond them: {n_beyond:,}; name the classes of this data with --labels"
            )
        lines += ["", f"{'class':<42} {'clips':>8}"]
        rarest = ranked[:N_NAMED]
        commonest = ranked[max(len(ranked) - 5, N_NAMED) :]
        lines += [self._class_line(*pair) for pair in rarest]
        lines += ["  ..."] if len(rarest) + len(commonest) < len(ranked) else []
        return lines + [self._class_line(*pair) for pair in commonest]

    def _class_line(self, index: int, n_clips: int) -> str:
        return f"  {shortened(self.name_of(index), 40):<40} {n_clips:8,}"

    def _combination_lines(self) -> list[str]:
        if not self.combinations:
            return []
        lines = ["", f"combinations of labels: {len(self.combinations):,}, the most frequent"]
        for indices, n_clips in self.combinations.most_common(10):
            lines.append(f"  {n_clips:8,}  " + " + ".join(map(self.name_of, indices)))
        return lines


@dataclass(frozen=True)
class BundleFile:
    """A file that a bundle's card names.

    Attributes:
        name: as the card has it.
        n_bytes: its size, None if it cannot be read.
        state: "fits" or "differs" (from its checksum), "missing", or what else is wrong.
    """

    name: str
    n_bytes: int | None
    state: str


@dataclass(frozen=True)
class BundleInspection:
    """What a bundle is, and whether it is whole.

    Attributes:
        directory: of the bundle.
        card: what `bundle.json` says, {} if it cannot be read.
        files: those that the card names.
        problem: why the bundle cannot be loaded, None if it can.
    """

    directory: str
    card: Mapping[str, Any]
    files: tuple[BundleFile, ...]
    problem: str | None

    @property
    def is_intact(self) -> bool:
        """Whether it can be loaded."""
        return self.problem is None

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
        return {
            "inspected": "bundle",
            "directory": self.directory,
            "problem": self.problem,
            "files": [asdict(file) for file in self.files],
            "card": dict(self.card),
        }

    def lines(self) -> list[str]:
        """The same for people to read."""
        lines = [f"bundle {self.directory}: " + ("whole" if self.problem is None else "NO GOOD")]
        lines += [f"  {line}" for line in (self.problem or "").splitlines()]
        for key, value in self.card.items():
            if key != "files":
                lines += _card_lines(key, value)
        lines += ["", "files"] if self.files else []
        for file in self.files:
            size = "" if file.n_bytes is None else _size(file.n_bytes)
            lines.append(f"  {file.name:<20} {size:>10}  {file.state}")
        return lines


@dataclass(frozen=True)
class AudioFile:
    """Facts about a sound file, as its header tells them.

    Attributes:
        path: of the file.
        format: container and encoding.
        sample_rate_hz: of the file.
        n_channels: of the file.
        seconds: duration; the whole file is read where the header does not tell it.
        n_frames: what `audiotag embed` makes of it, by default.
        warnings: sentences about what is odd.
        error: why it cannot be read, None if it can; then the rest is 0.
    """

    path: str
    format: str = ""
    sample_rate_hz: int = 0
    n_channels: int = 0
    seconds: float = 0.0
    n_frames: int = 0
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class AudioInspection:
    """What sound files are, all of them together."""

    files: tuple[AudioFile, ...]

    @property
    def is_intact(self) -> bool:
        """Whether all of them can be read."""
        return len(self.readable) == len(self.files)

    @property
    def readable(self) -> list[AudioFile]:
        """Those that can be read."""
        return [file for file in self.files if file.error is None]

    def as_json(self) -> dict[str, Any]:
        """All of it, JSON-ready."""
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
        """The same for people to read; each file has a line if there are at most `max_files`."""
        readable = self.readable
        seconds = [file.seconds for file in readable]
        n_frames = sum(file.n_frames for file in readable)
        lines = [
            f"sound files: {len(self.files):,} ({duration(math.fsum(seconds))}); "
            f"frames when embedded: {n_frames:,}"
        ]
        if len(self.files) <= max_files:
            for file in readable:
                rate = f"{file.sample_rate_hz:,} Hz, {file.n_channels} ch"
                facts = f"{file.seconds:9.2f} s  {file.n_frames:6,} frames  {rate:<16}"
                lines.append(f"  {facts}  {file.format:<19}  {one_line(file.path)}")
        elif readable:
            rates = {f"{rate:,} Hz": n for rate, n in tally(f.sample_rate_hz for f in readable)}
            channels = {f"{n} ch": count for n, count in tally(f.n_channels for f in readable)}
            lines += _counted("format", Counter(file.format for file in readable))
            lines += [*_counted("sample rate", rates), *_counted("channels", channels)]
            short, middle, long = np.quantile(seconds, (0, 0.5, 1))
            lines.append(f"duration: {short:.2f} to {long:.2f} s, median {middle:.2f} s")
        odd = [(f.path, text) for f in self.files for text in f.warnings]
        bad = [(f.path, f.error) for f in self.files if f.error is not None]
        for what, pairs in (("warnings", odd), ("files that cannot be read", bad)):
            if pairs:
                lines += ["", f"{what}: {len(pairs):,}"]
                lines += [
                    f"  {one_line(prefix_location(path, text))}" for path, text in pairs[:max_files]
                ]
                lines += ["  ..."] if len(pairs) > max_files else []
        return lines


Inspection = FramesInspection | BundleInspection | AudioInspection


# --- Words and numbers -------------------------------------------------------------------


def _by_number(counts: Mapping[int, int]) -> dict[str, int]:
    return {str(number): counts[number] for number in sorted(counts)}


def tally(values: Iterable[int]) -> list[tuple[int, int]]:
    """(value, how often it occurs), the lowest value first."""
    return sorted(Counter(values).items())


def _counted(what: str, counts: Mapping[str, int]) -> list[str]:
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    return [f"{what}: " + ", ".join(f"{name} ({n:,})" for name, n in ranked)] if ranked else []


def _bars(counts: Mapping[int, int]) -> list[str]:
    """A histogram in text."""
    rows = binned(counts)
    most = max(n for _, n in rows)
    return [
        f"  {name:>9} {n:10,}  {'█' * math.ceil(_BAR_WIDTH * n / most)}".rstrip()
        for name, n in rows
    ]


def binned(counts: Mapping[int, int], n_bins: int = N_BARS) -> list[tuple[str, int]]:
    """(number or range of numbers, count) for at most `n_bins` equal ranges of numbers."""
    low, high = min(counts), max(counts)
    width = math.ceil((high - low + 1) / n_bins)
    rows = []
    for start in range(low, high + 1, width):
        stop = min(start + width, high + 1)
        total = sum(n for number, n in counts.items() if start <= number < stop)
        rows.append((str(start) if stop - start == 1 else f"{start}-{stop - 1}", total))
    return rows


def _card_lines(key: str, value: Any, indent: str = "") -> list[str]:
    title = f"{indent}{key.replace('_', ' ')}:"
    if isinstance(value, Mapping):
        return [
            title,
            *(line for k, v in value.items() for line in _card_lines(str(k), v, indent + "  ")),
        ]
    if isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
        value = {str(number): item for number, item in enumerate(value, start=1)}
        return _card_lines(key, value, indent)
    if isinstance(value, list):
        value = ", ".join(summarise_paths(list(map(str, value))))
    if isinstance(value, float):
        value = f"{value:.4g}"
    elif isinstance(value, int) and not isinstance(value, bool):
        value = f"{value:,}"
    return [f"{title} {value}"]


def _size(n_bytes: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if n_bytes < 1024:
            return f"{n_bytes:.0f} {unit}" if unit == "bytes" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1024
    return f"{n_bytes:.1f} GiB"


def duration(seconds: float) -> str:
    """Seconds in the unit that suits them."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
