"""audiotag classify --live: lines from a microphone, until Ctrl-C."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import classifier
import cli
from classifier.live import LiveTagger
from classifier.output.live_report import LiveReport
from classifier.output.table import TableStyle
from tests.support.bundles import make_bundle
from tests.support.fake_sounddevice import FakeSoundDevice
from vggish.audio.microphone import MicrophoneBlock


@pytest.fixture
def card(
    small_home: Path, in_directory: Path, write_sound: Any, monkeypatch: pytest.MonkeyPatch
) -> FakeSoundDevice:
    """A sound card that records 5 seconds; the bundle tiny is in the working directory."""
    make_bundle(in_directory / "tiny")
    fake = FakeSoundDevice(write_sound("cwd/heard.wav", seconds=5.0, rate_hz=48_000))
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.fixture
def live(command_line: Any, card: FakeSoundDevice) -> Callable[..., tuple[int, str, str]]:
    return lambda *arguments: command_line("classify", "--live", "--model", "tiny", *arguments)


def expected(**choice: Any) -> Any:
    samples, rate_hz = soundfile.read("heard.wav", dtype="float32")
    tagger = LiveTagger(classifier.Tagger(classifier.load("tiny")), rate_hz, **choice)
    return [*tagger.feed(samples), *tagger.finish()]


def test_live_prints_a_line_per_frame(live: Any) -> None:
    status, out, err = live("--top-k", "2")
    found = expected(top_k=2)
    lines = out.splitlines()
    assert (status, len(lines)) == (0, len(found))
    for n, (line, tags) in enumerate(zip(lines, found, strict=True)):
        assert line.startswith(f"  0:0{n * 0.96:.2f}  {tags.tags[0].label} ")
        assert re.search(r" \d+(\.\d)? %; ", line)
    first, last = err.splitlines()
    assert first == "audiotag: listening to Built-in; press Ctrl-C to stop"
    best = max((tag.score, tag.label) for tags in found for tag in tags.tags)
    assert last.startswith(
        f"audiotag: 5.0 s of audio, {len(found)} lines; highest scores: {best[1]} "
    )


def test_json_lines_contain_all_tags(live: Any) -> None:
    choice = ("--top-k", "3", "--threshold", "0.3", "--exclude-labels", "Rain")
    status, out, err = live("--json", "--quiet", *choice)
    assert (status, err) == (0, "")
    tags = expected(top_k=3, threshold=0.3, exclude_labels=["Rain"])
    assert [json.loads(line) for line in out.splitlines()] == [one.as_json() for one in tags]


def test_a_device_is_chosen(live: Any, card: FakeSoundDevice) -> None:
    assert "listening to USB Audio" in live("--live-device", "usb")[2]
    status, out, err = live("--live-device", "none such")
    assert (status, out) == (2, "")
    assert "cannot open the microphone 'none such'" in err
    assert "  2  USB Audio" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["heard.wav"], "--live takes no inputs"),
        (["--files-from", "x"], "takes no --files-from"),
        (["-o", "x"], "takes no -o"),
        (["--out-dir", "x"], "takes no --out-dir"),
        (["--csv"], "takes no --csv"),
        (["--srt"], "takes no --srt"),
        (["--frames"], "takes no --frames"),
        (["--segments"], "takes no --segments"),
        (["--plot", "p.png"], "takes no --plot"),
        (["--server", "http://x"], "takes no --server"),
        (["--labels", "Bork"], "did you mean 'Bark'"),
        (["--top-k", "0"], "top_k must be at least 1"),
    ],
)
def test_live_rejects_options_for_files(
    live: Any, card: FakeSoundDevice, options: list[str], message: str
) -> None:
    status, out, err = live(*options)
    assert (status, out) == (2, "")
    assert message in err
    assert card.n_open == 0


def test_missing_package_error_has_the_pip_command(
    live: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    status, _, err = live()
    assert (status, "pip install 'audiotag[live]'" in err) == (2, True)


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from tests.support.fake_sounddevice import FakeSoundDevice
    card = sys.modules["sounddevice"] = FakeSoundDevice(Path("heard.wav"))
    card.ends, card.seconds_a_block = False, 0.01
    import cli
    sys.exit(cli.main(sys.argv[1:]))
    """
)


def start(*options: str) -> subprocess.Popen[str]:
    arguments = ["classify", "--live", "--model", "tiny", *options]
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *arguments], text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)},
    )  # fmt: skip


@pytest.mark.usefixtures("card")
@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, 128 + signal.SIGTERM)]
)
def test_a_signal_stops_with_a_summary(number: int, status: int) -> None:
    with start() as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(2)]  # flushed at once, even to a pipe
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert all(line.startswith("  0:0") for line in first)
    assert process.returncode == status
    assert re.search(r"audiotag: \d+\.\d s of audio, \d+ lines; highest scores: ", err)
    assert "Traceback" not in err


@pytest.mark.usefixtures("card")
def test_closed_pipe_ends_live_tagging() -> None:
    with start("--quiet") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, err) == (0, "")


# --- messages ---------------------------------------------------------------------------------


def block(seconds: float, level: float = 0.5, **what: Any) -> MicrophoneBlock:
    return MicrophoneBlock(np.full((round(seconds * 1000), 1), level, np.float32), **what)


def test_dropped_audio_is_logged_and_counted(card: FakeSoundDevice) -> None:
    report = LiveReport(1000, TableStyle())
    assert list(report.notes(block(2.0))) == []
    assert list(report.notes(block(1.0, n_lost=1500))) == [
        "warning: dropped 1.5 s of audio at 2.0 s: tagging is too slow"
    ]
    (found, *_) = expected(top_k=1)
    (line,) = report.lines([found])
    assert line.startswith("  0:01.50  ")
    assert list(report.notes(block(1.0, is_broken=True))) == [
        "warning: the sound card lost some audio at 4.5 s"
    ]
    assert report.summary().startswith("5.5 s of audio, 1 line; highest scores: ")
    assert report.summary().endswith("; 1.5 s dropped")


def test_silent_microphone_is_logged_once() -> None:
    report = LiveReport(1000, TableStyle())
    notes = [note for _ in range(8) for note in report.notes(block(1.0, 5e-4))]
    assert notes == ["note: only silence so far; is the microphone muted, or another one in use?"]
    report = LiveReport(1000, TableStyle())
    assert [note for _ in range(8) for note in report.notes(block(1.0))] == []
    assert report.summary() == "8.0 s of audio, 0 lines"


def test_live_lines_fit_the_terminal_and_show_hours(
    card: FakeSoundDevice,
) -> None:
    import dataclasses

    (found, *_) = expected(top_k=5)
    report = LiveReport(1000, TableStyle(width=40))
    (line,) = report.lines([dataclasses.replace(found, start_seconds=36_061.5)])
    assert line.startswith("10:01:01.50  ")
    assert len(line) <= 40
    (line,) = report.lines([dataclasses.replace(found, tags=())])
    assert line == "  0:00.00  -"


def test_slow_tagging_drops_audio(
    live: Any, card: FakeSoundDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vggish.audio import microphone

    monkeypatch.setattr(microphone, "MAX_WAITING_SECONDS", 1.0)
    feed = LiveTagger.feed

    def slow(self: LiveTagger, samples: Any) -> Any:
        time.sleep(0.05)
        return feed(self, samples)

    monkeypatch.setattr(LiveTagger, "feed", slow)
    card.seconds_a_block = 0.005
    status, _, err = live()
    assert status == 0
    assert "s of audio at" in err or "dropped" in err.splitlines()[-1]
