from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vggish import ClipFrames, Extractor, load_extractor, read_frames
from vggish.audio.inputs import find_inputs
from vggish.batch.embed import BatchReport, embed_batch
from vggish.batch.journal import open_journal
from vggish.batch.sinks import Destination
from vggish.errors import EmptyAudioError, FrameFileError, MissingPackageError, ResumeError

pytestmark = pytest.mark.usefixtures("small_home")
N_SOUNDS = 6

# Runs the command line and kills it before the nth time that a file of the output directory is
# opened, renamed or removed; with n = 0, it prints the number of such steps.
KILLED_AT = """
import os, signal, sys, cli
step, place, *arguments = sys.argv[1:]
n = 0
def count(event, values):
    global n
    if event in ("open", "os.rename", "os.remove") and place in str(values[0]):
        n += 1
        if n == int(step):
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
status = cli.main(arguments)
print("steps", n)
sys.exit(status)
"""
# Runs the command line with a slow network.
SLOW = """
import sys, time, cli, vggish.network.runtime as runtime
fast = runtime.Embedder.__call__
def slow(self, patches):
    time.sleep(0.08)
    return fast(self, patches)
runtime.Embedder.__call__ = slow
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def sounds(in_directory: Path, write_sound: Callable[..., Path]) -> Path:
    """Six audio files of different durations and sample rates in `sounds/`."""
    for n in range(N_SOUNDS):
        rate_hz = 44_100 if n % 2 else 16_000
        name = f"cwd/sounds/{'sub/' if n > 3 else ''}{n}.wav"
        write_sound(name, seconds=0.5 + n, rate_hz=rate_hz, seed=n)
    return Path("sounds")


@pytest.fixture
def extractor() -> Extractor:
    return load_extractor()


def run(extractor: Any, destination: Destination, *inputs: str, **options: Any) -> BatchReport:
    return embed_batch(extractor, find_inputs(inputs or ["sounds"]).items, destination, **options)


def one(name: str) -> Destination:
    return Destination(Path(name).suffix[1:], file=Path(name))


def files(directory: str | Path, *, journals: bool = True) -> dict[str, bytes]:
    """All files below a directory, by relative path."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(Path(directory).rglob("*"))
        if path.is_file() and (journals or path.suffix != ".journal")
    }


@pytest.mark.parametrize("name", ["all.npz", "all.tfrecord", ""])
def test_several_jobs_give_the_same_files_as_one(
    sounds: Path, extractor: Extractor, name: str
) -> None:
    for jobs in (1, 4):
        directory = Path(f"out{jobs}")
        to = one(str(directory / name)) if name else Destination("csv", directory)
        report = run(extractor, to, jobs=jobs)
        assert (report.n_clips, report.failures) == (N_SOUNDS, [])
        assert report.seconds == sum(0.5 + n for n in range(N_SOUNDS))
    assert files("out1") == files("out4")
    expected = [name] if name else [f"{n}.csv" for n in range(4)] + ["sub/4.csv", "sub/5.csv"]
    assert list(files("out1")) == expected


def test_one_file_holds_the_clips_in_the_order_of_the_inputs(
    sounds: Path, extractor: Extractor
) -> None:
    run(extractor, one("all.jsonl"), "sounds/sub", "sounds/2.wav", "sounds", jobs=4)
    read = list(read_frames("all.jsonl"))
    assert [clip.clip_id for clip in read] == ["sub/4", "sub/5", "2", "0", "1", "3"]
    for clip in read:
        alone = extractor(f"sounds/{clip.clip_id}.wav")
        np.testing.assert_array_equal(clip.frames, alone.frames)
        assert clip.metadata == alone.metadata


def test_bad_files_are_reported_and_the_run_continues(sounds: Path, extractor: Extractor) -> None:
    Path("sounds/1.wav").write_bytes(b"RIFF nonsense")
    Path("sounds/3.wav").write_bytes(b"")
    report = run(extractor, one("all.jsonl"), "sounds", "missing.wav", jobs=3)
    assert [failure.source for failure in report.failures] == [
        *("sounds/1.wav", "sounds/3.wav", "missing.wav")
    ]
    assert isinstance(report.failures[1].error, EmptyAudioError)
    assert [clip.clip_id for clip in read_frames("all.jsonl")] == [
        *("sounds/0", "sounds/2", "sounds/sub/4", "sounds/sub/5")
    ]
    assert set(files(".")) - set(files("sounds")) >= {"all.jsonl"}


class Flawed:
    """An extractor that raises `error` for one source."""

    def __init__(self, extractor: Extractor, source: str, error: BaseException) -> None:
        self.provenance = extractor.provenance
        self.calls: list[str] = []
        self._extractor, self._source, self._error = extractor, source, error

    def __call__(self, source: str, *arguments: Any, **options: Any) -> ClipFrames:
        self.calls.append(source)
        if source == self._source:
            raise self._error
        return self._extractor(source, *arguments, **options)


def test_unexpected_errors_are_reported_too(sounds: Path, extractor: Extractor) -> None:
    flawed = Flawed(extractor, "sounds/2.wav", ZeroDivisionError("x"))
    report = run(flawed, Destination("npz", Path("out")), jobs=2)
    assert [(f.source, type(f.error)) for f in report.failures] == [
        ("sounds/2.wav", ZeroDivisionError)
    ]
    assert len(files("out")) == N_SOUNDS - 1


def test_a_missing_package_ends_the_run_at_once(sounds: Path, extractor: Extractor) -> None:
    flawed = Flawed(extractor, "sounds/0.wav", MissingPackageError("pip install it"))
    with pytest.raises(MissingPackageError):
        run(flawed, Destination("npz", Path("out")), jobs=1)
    assert files("out") == {}


def test_an_output_that_cannot_be_written_fails_alone(sounds: Path, extractor: Extractor) -> None:
    Path("out/2.npz").mkdir(parents=True)
    Path("out/sub").write_text("in the way")
    report = run(extractor, Destination("npz", Path("out")))
    assert [failure.source for failure in report.failures] == [
        *("sounds/2.wav", "sounds/sub/4.wav", "sounds/sub/5.wav")
    ]
    assert sorted(files("out")) == ["0.npz", "1.npz", "3.npz", "sub"]


def test_a_full_disk_ends_the_run_which_can_be_resumed(
    sounds: Path, extractor: Extractor, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = Path.replace

    def full(path: Path, target: Path) -> Path:
        if Path(target).name == "2.npz":
            raise OSError(28, "No space left on device")
        return replace(path, target)

    to = Destination("npz", Path("out"))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", full)
        with pytest.raises(FrameFileError, match=r"out/2\.npz: No space left"):
            run(extractor, to)
    report = run(extractor, to, resume=True)
    assert (report.n_resumed, report.n_clips) == (2, 4)


def test_old_output_is_kept_if_all_inputs_fail(in_directory: Path, extractor: Any) -> None:
    Path("all.npz").write_text("old")
    report = run(extractor, one("all.npz"), "missing.wav")
    assert len(report.failures) == 1
    assert files(".") == {"all.npz": b"old"}


def test_labels_are_stored_with_their_clips(sounds: Path, extractor: Extractor) -> None:
    labels = {"0": (7,), "sub/5": (1, 2), "elsewhere": (3,)}
    report = run(extractor, one("all.tfrecord"), labels=labels)
    found = {clip.clip_id: clip.labels for clip in read_frames("all.tfrecord") if clip.labels}
    assert found == {"0": (7,), "sub/5": (1, 2)}
    assert report.unlabelled == ["1", "2", "3", "sub/4"]


# --- journal and resume ------------------------------------------------------------------


def start(program: str, *arguments: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=os.environ.copy())


def finish(program: str, *arguments: Any) -> tuple[int, str, str]:
    process = start(program, *arguments)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def embed_to(place: str, name: str) -> list[str]:
    """Arguments of a run that writes one file, or one file per clip, to a directory."""
    to = ["-o", f"{place}/{name}"] if "." in name else ["--out-dir", place, "--format", name]
    return ["embed", "sounds", *to, "--resume", "--jobs", "2"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all.npz", "all.tfrecord", "csv"])
def test_a_run_killed_at_any_step_is_resumed_to_the_same_files(sounds: Path, name: str) -> None:
    shutil.rmtree("sounds/sub")
    status, out, err = finish(KILLED_AT, 0, "whole", *embed_to("whole", name))
    assert status == 0, err
    whole = files("whole", journals=False)
    n_steps = int(out.split("steps ")[1])
    assert n_steps >= 10
    for step in range(1, n_steps + 1):
        shutil.rmtree("killed", ignore_errors=True)
        status, _, err = finish(KILLED_AT, step, "killed", *embed_to("killed", name))
        assert status == -signal.SIGKILL, (step, err)
        status, _, err = finish(KILLED_AT, 0, "killed", *embed_to("killed", name))
        assert status == 0, (step, err)
        assert files("killed", journals=False) == whole, step


@pytest.mark.slow
@pytest.mark.parametrize("name", ["all.csv", "all.jsonl", "parquet"])
def test_a_run_killed_at_random_times_is_resumed_to_the_same_files(sounds: Path, name: str) -> None:
    for n in range(12):
        shutil.copy("sounds/0.wav", f"sounds/more{n}.wav")
    status, _, err = finish(SLOW, *embed_to("whole", name))
    assert status == 0, err
    chance = random.Random(name)
    n_killed = 0
    while True:
        process = start(SLOW, *embed_to("killed", name))
        try:
            _, err = process.communicate(timeout=chance.uniform(0.3, 0.75) + n_killed / 20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            n_killed += 1
            assert n_killed < 40, "each run must get further than the one before"
            continue
        assert process.returncode == 0, err
        break
    assert n_killed >= 2
    assert files("killed", journals=False) == files("whole", journals=False)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_interrupted_run_is_reported_and_resumed(sounds: Path) -> None:
    process = start(SLOW, "embed", "sounds", "--out-dir", "out", "--jobs", "1")
    wait_for(lambda: Path("out/1.npz").exists())
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err.endswith("\n\naudiotag: interrupted; the same command with --resume continues\n")
    assert 2 <= len(files("out", journals=False)) < N_SOUNDS
    status, _, err = finish(SLOW, "embed", "sounds", "--out-dir", "out", "--jobs", "1")
    assert status == 2
    assert "add --resume to continue it" in err
    status, out, _ = finish(SLOW, "embed", "sounds", "--out-dir", "out", "--jobs", "1", "--resume")
    assert (status, "done by an earlier run" in out) == (0, True)
    assert len(files("out", journals=False)) == N_SOUNDS


def test_a_second_concurrent_run_is_refused(sounds: Path, extractor: Extractor) -> None:
    other = open_journal(one("out/all.csv").journal, {}, resume=False)
    status, _, err = finish(SLOW, *embed_to("out", "all.csv"))
    assert (status, "another run is writing to this destination now" in err) == (2, True)
    other.close(keep=False)
    run(extractor, one("out/all.csv"))
    assert list(files("out")) == ["all.csv"]


def test_runs_with_different_inputs_share_a_directory(sounds: Path) -> None:
    names = sorted(files("sounds"))
    options = ("--out-dir", "out", "--quiet")
    processes = [start(SLOW, "embed", f"sounds/{name}", *options) for name in names]
    for process in processes:
        assert process.communicate(timeout=60)[1] == ""
        assert process.returncode == 0
    assert list(files("out")) == [f"{n}.npz" for n in range(N_SOUNDS)]


@pytest.mark.parametrize("to", [one("out/all.jsonl"), Destination("jsonl", Path("out"))])
def test_a_changed_source_is_embedded_again(
    sounds: Path, extractor: Extractor, write_sound: Any, to: Destination
) -> None:
    write_sound("cwd/sounds/bad.wav").write_bytes(b"bad")
    run(extractor, to, resume=True)
    write_sound("cwd/sounds/1.wav", seconds=3.0, seed=99)
    write_sound("cwd/sounds/bad.wav", seconds=2.0, seed=98)
    report = run(extractor, to, resume=True)
    assert (report.n_resumed, report.n_clips, report.failures) == (N_SOUNDS - 1, 2, [])
    shutil.move("out", "resumed")
    run(extractor, to)
    assert files("resumed", journals=False) == files("out")


def test_deleted_outputs_are_written_again(sounds: Path, extractor: Any) -> None:
    to = Destination("npz", Path("out"))
    run(extractor, to, resume=True)
    before = files("out")
    Path("out/2.npz").unlink()
    report = run(extractor, to, resume=True)
    assert (report.n_resumed, report.n_clips) == (N_SOUNDS - 1, 1)
    assert files("out", journals=False) == {k: v for k, v in before.items() if k[0] != "."}


def killed_after(n: int, extractor: Extractor, to: Destination, **options: Any) -> None:
    """Run an embedding job that is interrupted after `n` clips."""

    class Interrupt:
        n_done = 0

        def progress(self, *arguments: Any) -> None:
            pass

        def finished(self, *arguments: Any) -> None:
            self.n_done += 1
            if self.n_done == n:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(extractor, to, observer=Interrupt(), **options)


def test_changed_options_are_refused_with_the_difference(sounds: Path, extractor: Any) -> None:
    to = one("all.jsonl")
    killed_after(2, extractor, to)
    before = files(".")
    with pytest.raises(ResumeError) as caught:
        run(load_extractor(hop_seconds=1.0, tail="drop"), to, resume=True)
    assert "hop_seconds: was 0.96, is now 1.0" in str(caught.value)
    assert "tail: was 'pad', is now 'drop'" in str(caught.value)
    with pytest.raises(ResumeError, match="labels_sha256: was None"):
        run(extractor, to, resume=True, labels={"0": (1,)})
    with pytest.raises(ResumeError, match=r"embedder\.precision: was 'float32', is now 'int8'"):
        run(load_extractor(precision="int8"), to, resume=True)
    with pytest.raises(ResumeError, match=r"unfinished run.*add --resume.*or delete that file"):
        run(extractor, to)
    assert files(".") == before
    assert run(extractor, to, resume=True).n_resumed == 2


def test_new_and_renamed_inputs_are_embedded(
    sounds: Path, extractor: Extractor, write_sound: Any
) -> None:
    to = one("all.jsonl")
    killed_after(3, extractor, to)
    write_sound("cwd/sounds/00.wav")
    Path("sounds/1.wav").unlink()
    killed_after(3, extractor, to, resume=True)
    write_sound("cwd/elsewhere/x.wav")
    report = run(extractor, to, "sounds", "elsewhere", resume=True)
    # All paths are now relative to another directory.
    assert (report.n_resumed, report.n_clips) == (0, N_SOUNDS + 1)
    assert [clip.clip_id for clip in read_frames("all.jsonl")] == [
        *("sounds/0", "sounds/00", "sounds/2", "sounds/3", "sounds/sub/4", "sounds/sub/5"),
        "elsewhere/x",
    ]


def test_run_without_a_finished_clip_leaves_no_files(sounds: Path, extractor: Extractor) -> None:
    flawed = Flawed(extractor, "sounds/0.wav", MissingPackageError("pip install it"))
    with pytest.raises(MissingPackageError):
        run(flawed, one("out/all.npz"))
    assert files("out") == {}


def test_a_truncated_spool_is_refused(sounds: Path, extractor: Extractor) -> None:
    killed_after(2, extractor, one("all.npz"))
    (spool,) = Path().glob("*.spool.tfrecord")
    os.truncate(spool, spool.stat().st_size - 1)
    with pytest.raises(ResumeError, match=r"missing or truncated.*delete both to start again"):
        run(extractor, one("all.npz"), resume=True)


def test_an_incomplete_line_of_the_journal_is_ignored(sounds: Path, extractor: Extractor) -> None:
    killed_after(3, extractor, one("all.jsonl"))
    (journal,) = Path().glob("*.journal")
    os.truncate(journal, journal.stat().st_size - 5)
    report = run(extractor, one("all.jsonl"), resume=True)
    assert (report.n_resumed, report.n_clips) == (2, N_SOUNDS - 2)
    assert len(list(read_frames("all.jsonl"))) == N_SOUNDS


@pytest.mark.parametrize(
    "text", ["a\nb\n", "{}\n{}\n", '{"audiotag_journal": {}}\n{"source": 1}\n']
)
def test_an_invalid_journal_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "journal"
    path.write_text(text)
    with pytest.raises(ResumeError, match="is not an audiotag journal"):
        open_journal(path, {}, resume=True)
    assert sorted(os.listdir(tmp_path)) == ["audiotag-home", "journal"]


def test_pipes_are_never_resumed(sounds: Path, extractor: Extractor) -> None:
    os.mkfifo("pipe.wav")
    for n in (2, 3):
        feeder = subprocess.Popen(["cp", f"sounds/{n}.wav", "pipe.wav"])
        report = run(extractor, Destination("npz", Path("out")), "pipe.wav", resume=True)
        assert feeder.wait(10) == 0
        assert (report.n_resumed, report.n_clips) == (0, 1)
        assert len(next(read_frames("out/pipe.npz"))) == n + 1


def test_the_observer_receives_every_item_in_order(sounds: Path, extractor: Extractor) -> None:
    class Watching:
        finished_items: list[tuple[str, int | None]]
        progressed: set[str]

        def __init__(self) -> None:
            self.finished_items, self.progressed = [], set()

        def progress(self, item: Any, seconds: float, total_seconds: float | None) -> None:
            self.progressed.add(item.source)

        def finished(self, item: Any, clip: ClipFrames | None) -> None:
            self.finished_items.append((item.source, None if clip is None else len(clip)))

    Path("sounds/1.wav").write_bytes(b"bad")
    watching = Watching()
    run(extractor, one("all.npz"), observer=watching, jobs=4)
    sources: Sequence[str] = [item.source for item in find_inputs(["sounds"]).items]
    assert [source for source, _ in watching.finished_items] == sources
    assert [n for _, n in watching.finished_items] == [1, None, 3, 4, 5, 6]
    assert watching.progressed == set(sources) - {"sounds/1.wav"}
