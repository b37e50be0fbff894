from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import classifier
import cli
from audiotag.terminal.training import TrainingDisplay
from classifier.heads.settings import HEADS
from classifier.training.runs import Run
from tests.support.frames import write_labelled_frames
from tests.support.records import make_frames, make_record, write_records
from tests.support.terminal import on_a_terminal
from tests.support.training import assert_same_arrays
from vggish import read_frames

Train = Callable[..., tuple[int, str, str]]

LOGISTIC = ("--frames", "data", "--labels", "classes.csv", "--head", "logistic")
# Logistic regression on normalised means needs a high learning rate.
QUICK = (*LOGISTIC, "--learning-rate", "1", "--epochs", "2")
RUN_FILES = {
    "config.json", "labels.csv", "split.csv", "curves.csv", "curves.png", "metrics.json",
    "sample.npz", "checkpoints/state.npz", "checkpoints/best.npz", "checkpoints/validation.npz",
    "checkpoints/epoch-0001.npz", "checkpoints/epoch-0002.npz", "checkpoints/epoch-0003.npz",
    "bundle/head.onnx",
    "bundle/labels.csv", "bundle/bundle.json", "bundle/weights.npz", "bundle/README.md",
}  # fmt: skip
EPOCH = (
    r"epoch   {}/{}  loss \d+\.\d{{3}}  mAP \d\.\d{{4}}  mAUC \d\.\d{{4}}"
    r"( \*|  )  [\d,]+ examples/s  \d+:\d\d left"
)


@pytest.fixture
def train(command_line: Train, caplog: pytest.LogCaptureFixture) -> Train:
    """Run `audiotag train` in this process: status, stdout, stderr without progress lines."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        status, out, err = command_line("train", *arguments)
        assert "Traceback" not in err
        # TensorFlow would print these if pytest did not catch them.
        assert [record.message for record in caplog.records if record.name == "tensorflow"] == []
        if status == 0:
            chatter = [line for line in err.splitlines() if not line.startswith(("audio", "epoch"))]
            assert chatter == []
        return status, out, err

    return run


def files_below(directory: Path) -> set[str]:
    return {str(p.relative_to(directory)) for p in directory.rglob("*") if p.is_file()}


def curves(run: str) -> list[dict[str, str]]:
    """Rows of the learning curves, without timings."""
    with open(f"{run}/curves.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


def signalled(
    monkeypatch: pytest.MonkeyPatch, number: int, *, after: int = 1, times: int = 1
) -> None:
    """Send this process a signal `times` times after training step `after`."""
    n_steps = 0
    show = TrainingDisplay.on_step

    def on_step(display: TrainingDisplay, state: Any) -> None:
        nonlocal n_steps
        n_steps += 1
        show(display, state)
        for _ in range(times if n_steps == after else 0):
            os.kill(os.getpid(), number)

    monkeypatch.setattr(TrainingDisplay, "on_step", on_step)


# --- Output of a run ---------------------------------------------------------------------


def test_run_directory_contains_a_bundle(trained: Any) -> None:
    run = trained[0] / "runs" / "feature-attention-1"
    written = files_below(run)
    assert {name for name in written if not name.startswith("tensorboard/")} == RUN_FILES
    assert any(name.startswith("tensorboard/") for name in written)
    bundle = classifier.load(run)
    assert bundle.labels.names == ("dog", "cat", "rain", "wind")
    assert (bundle.name, bundle.card["licence"]) == ("feature-attention-1", "made-up")
    assert bundle.card["head"]["settings"]["units"] == 16
    assert Run(run).metrics()["mAP"] > 0.9
    assert len(Run(run).held_out()) == 8


def test_progress_goes_to_stderr_and_the_result_to_stdout(trained: Any) -> None:
    _, done = trained
    first, *epochs = done.stderr.splitlines()
    assert first == "audiotag: 80 clips, 4 classes; feature-attention -> runs/feature-attention-1"
    assert len(epochs) == 3
    for number, line in enumerate(epochs, start=1):
        assert re.fullmatch(EPOCH.format(number, 3), line)
    assert " * " in epochs[0]
    assert re.fullmatch(
        r"best epoch [123] of 3: mAP \d\.\d{4}  mAUC \d\.\d{4}  lwlrap \d\.\d{4} \(validation\)\n"
        r"bundle: runs/feature-attention-1/bundle\n",
        done.stdout,
    )


@pytest.mark.usefixtures("run_directory")
class TestTrain:
    def test_runs_are_numbered_and_quiet_runs_print_nothing(self, train: Train) -> None:
        assert train(*QUICK, "--quiet") == (0, "", "")
        status, out, err = train(*QUICK, "--val-share", "0")
        assert (status, out) == (0, "bundle: runs/logistic-2/bundle\n")
        assert re.search(r"epoch   2/2  loss \d\.\d{3}   +[\d,]+ examples/s  0:00 left\n$", err)
        assert Run(Path("runs/logistic-2")).held_out() == []

    def test_separate_validation_clips_are_all_held_out(self, train: Train) -> None:
        assert train(*QUICK, "--val", "eval", "-o", "new/run")[0] == 0
        assert Run(Path("new/run")).held_out() == [f"clip2-{i}" for i in range(40)]
        data = json.loads(Path("new/run/config.json").read_text())["data"]
        assert (data["n_clips"], data["validation"]["n_clips"]) == (80, 40)

    def test_training_starts_from_a_bundle_with_other_classes(self, train: Train) -> None:
        write_labelled_frames(Path("three.tfrecord"), 24, n_classes=3)
        Path("three.csv").write_text("index,mid,display_name\n0,,rain\n1,/m/dog,hound\n2,,owl\n")
        arguments = ["--frames", "three.tfrecord", "--labels", "three.csv", "--epochs", "1"]
        start = "runs/feature-attention-1"
        status, _, err = train(*arguments, "--init-from", start, "-o", "runs/fine")
        assert status == 0
        assert "starting from feature-attention-1, which knows 2 of the 3 classes\n" in err
        bundle = classifier.load("runs/fine")
        assert bundle.labels.names == ("rain", "hound", "owl")
        data = bundle.card["training"][0]["data"]
        assert data["initial"]["sha256"] == classifier.load(start).sha256
        status, _, err = train(*arguments, "--init-from", start, "--head", "gru", "-o", "runs/x")
        assert (status, "(feature-attention); leave them out" in err) == (2, True)

    def test_folds_give_mean_spread_and_an_ensemble(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = [*QUICK, "--folds", "2", "-o", "runs/folds"]
        with monkeypatch.context() as stopping:
            # Two epochs on the first fold take 10 steps of 8 clips.
            signalled(stopping, signal.SIGINT, after=13)
            status, out, _ = train(*arguments)
        no_bundle = "no bundle yet in runs/folds: not every fold has finished\n"
        assert (status, out) == (130, no_bundle)
        assert Path("runs/folds/fold-1/metrics.json").exists()
        assert not Path("runs/folds/bundle").exists()
        assert train(*arguments, "--resume", "--learning-rate", "2")[0] == 2
        status, out, err = train(*arguments, "--resume")
        assert status == 0
        assert "fold-1 is finished; there is nothing to resume" in err
        assert re.fullmatch(
            r"mAP of 2 folds: [01]\.\d{4} \+- 0\.\d{4}\nbundle: runs/folds/bundle\n", out
        )
        assert classifier.load("runs/folds").card["head"]["name"] == "ensemble"
        held = [Run(Path(f"runs/folds/fold-{k}")).held_out() for k in (1, 2)]
        assert (len(held[0]), len({*held[0], *held[1]})) == (40, 80)

    def test_damaged_record_is_named_and_can_be_skipped(self, train: Train) -> None:
        data = bytearray(Path("data/b.tfrecord").read_bytes())
        data[-30] ^= 1
        Path("data/b.tfrecord").write_bytes(data)
        status, out, err = train(*QUICK, "-o", "runs/x")
        assert (status, out) == (2, "")
        assert "data/b.tfrecord, record 40: damaged (wrong checksum)" in err
        assert "--max-bad N" in err
        status, _, err = train(*QUICK, "-o", "runs/x", "--max-bad", "1")
        assert status == 0
        assert (
            "warning: skipped damaged or invalid records or files: 1 (data/b.tfrecord, rec" in err
        )
        assert "79 clips, 4 classes" in err

    def test_undefined_metrics_are_dashes(self, train: Train) -> None:
        write_labelled_frames(Path("one.tfrecord"), 1, seed=5)
        status, out, err = train(*QUICK, "--val", "one.tfrecord", "-o", "runs/one")
        assert status == 0
        assert "  mAUC -  " in out + err
        assert "mAUC is undefined: no class has validation clips with and without it\n" in out
        assert "nan" not in out + err

    def test_many_sources_are_summarised_in_the_card(self, train: Train) -> None:
        records = Path("data/a.tfrecord").read_bytes(), Path("data/b.tfrecord").read_bytes()
        for number in range(6):
            write_records(Path(f"many/{number}.tfrecord"))
        Path("many/0.tfrecord").write_bytes(records[0])
        Path("many/1.tfrecord").write_bytes(records[1])
        many = sorted(map(str, Path("many").iterdir()))
        arguments = ("--frames", *many, *QUICK[2:], "-o", "runs/many")
        assert train(*arguments)[0] == 0
        card = Path("runs/many/bundle/README.md").read_text()
        assert "- 80 clips of `6 files in many/`; seed 0" in card
        assert "| validation |" in card
        assert len(json.loads(Path("runs/many/config.json").read_text())["data"]["sources"]) == 6
        status, _, err = train(*arguments, "--resume", "--frames", "eval")
        assert status == 2
        assert "  data.sources: now with eval\n" in err

    def test_all_heads_are_listed(self, train: Train) -> None:
        status, out, err = train("--list-heads")
        assert (status, err) == (0, "")
        assert [line.split()[0] for line in out.splitlines()] == list(HEADS)
        assert re.search(r"^logistic +l2=1e-08, normalisation=l2$", out, re.MULTILINE)

    def test_a_terminal_shows_a_bar_and_the_epochs(self) -> None:
        seen = on_a_terminal("train", *QUICK, "-o", "runs/bar", columns=100)
        assert re.search(
            r"epoch 1/2 [━╸╺ ]+ loss \d+\.\d{3}  [\d,]+ examples/s  \d:\d\d left", seen
        )
        assert re.search(EPOCH.format(2, 2), seen)
        assert "bundle: runs/bar/bundle" in seen
        assert "Traceback" not in seen


# --- Stopped and resumed -----------------------------------------------------------------


@pytest.mark.usefixtures("run_directory")
class TestStopped:
    def test_resumed_run_equals_an_uninterrupted_one(self, train: Train) -> None:
        arguments = (*LOGISTIC, "--learning-rate", "0.1", "--epochs", "8", "--batch-size", "1")
        arguments = (*arguments, "--patience", "0")
        command = [sys.executable, "-m", "cli", "train", *arguments]
        environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}
        written = Path("runs/logistic-1/curves.csv")
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True
        ) as process:
            deadline = time.monotonic() + 120
            while not written.exists() or written.read_bytes().count(b"\n") < 2:
                assert time.monotonic() < deadline
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert err.endswith(
            "audiotag: stopped; the same command with --resume -o runs/logistic-1 continues\n"
        )
        assert "bundle: runs/logistic-1/bundle" in out
        assert 1 <= len(curves("runs/logistic-1")) < 8
        before = classifier.load("runs/logistic-1").card["training"][0]["configuration"]
        assert before["epochs"] == 8

        status, _, err = train(*arguments, "--resume", "--learning-rate", "0.2", "--seed", "3")
        assert status == 2
        assert "  training.learning_rate: 0.1 -> 0.2\n  training.seed: 0 -> 3\n" in err
        names = Path("classes.csv").read_text()
        Path("other.csv").write_text(names.replace("rain", "drizzle"))
        status, _, err = train(*arguments, "--resume", "--labels", "other.csv")
        assert (status, "  data.classes: " in err) == (2, True)
        status, out, err = train(*arguments, "--resume", "-o", "runs/logistic-1")
        assert status == 0, err
        assert train(*arguments, "-o", "runs/whole")[0] == 0
        assert [row["epoch"] for row in curves("runs/logistic-1")] == [str(n) for n in range(1, 9)]
        assert curves("runs/logistic-1") == curves("runs/whole")
        assert_same_arrays(*(Run(Path("runs", name)).best for name in ("logistic-1", "whole")))

    def test_run_terminated_in_its_first_epoch_has_no_bundle(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as stopping:
            signalled(stopping, signal.SIGTERM)
            status, out, err = train(*QUICK, "-o", "runs/x")
        assert (status, out) == (143, "no bundle yet in runs/x: no epoch has finished\n")
        assert err.endswith("audiotag: stopped; the same command with --resume continues\n")
        status, out, _ = train(*QUICK, "-o", "runs/x", "--resume")
        assert (status, out.splitlines()[-1]) == (0, "bundle: runs/x/bundle")

    def test_second_ctrl_c_interrupts_at_once(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        signalled(monkeypatch, signal.SIGINT, times=2)
        status, out, err = train(*QUICK, "-o", "runs/x")
        assert (status, out) == (130, "")
        assert err.endswith("\naudiotag: interrupted\n")

    def test_a_finished_run_is_not_changed(self, train: Train) -> None:
        assert train(*QUICK, "-o", "runs/x", "--quiet")[0] == 0
        before = {name: Path("runs/x", name).read_bytes() for name in files_below(Path("runs/x"))}
        status, out, err = train(*QUICK, "-o", "runs/x", "--resume")
        assert (status, out.splitlines()[-1]) == (0, "bundle: runs/x/bundle")
        assert "runs/x is finished; there is nothing to resume" in err
        status, _, err = train(*QUICK, "-o", "runs/x")
        assert status == 2
        assert "runs/x already contains a run; continue it with --resume" in err
        status, _, err = train(*QUICK, "--epochs", "3", "-o", "runs/x", "--resume")
        assert status == 2
        assert "begin a new run with -o (from its weights: --init-from runs/x)\n" in err
        assert before == {n: Path("runs/x", n).read_bytes() for n in files_below(Path("runs/x"))}


# --- Training on audio -------------------------------------------------------------------


@pytest.fixture
def sounds(small_home: Path, in_directory: Path, write_sound: Any) -> None:
    """Fill the working directory: sounds/ with eight clips each in high/ and low/, and a note."""
    for number in range(8):
        write_sound(f"cwd/sounds/low/{number}.wav", seconds=1.5, seed=number)
        write_sound(f"cwd/sounds/high/{number}.wav", seconds=1.0, seed=100 + number)
    Path("sounds/notes.txt").write_text("notes")


@pytest.mark.usefixtures("sounds")
class TestTrainOnAudio:
    quick = ("--audio", "sounds", "--head", "logistic", "--epochs", "1")

    def test_a_folder_for_each_class_is_embedded_once(self, train: Train) -> None:
        status, _, err = train(*self.quick)
        assert status == 0
        assert "audiotag: 16 clips embedded, 0 cached\n" in err
        assert "audiotag: note: sounds/notes.txt: not an audio file\n" in err
        assert "audiotag: 16 clips, 2 classes; logistic -> runs/logistic-1\n" in err
        bundle = classifier.load("runs/logistic-1")
        assert bundle.labels.names == ("high", "low")
        assert bundle.card["embedders"] == ["vggish"]
        assert "audiotag: using VGGish; for the small embedder: --embedder mini" in err
        tagger = classifier.Tagger(bundle)
        assert {tag.label for tag in tagger.tag("sounds/low/0.wav").tags} == {"high", "low"}
        assert "0 clips embedded, 16 cached" in train(*self.quick)[2]
        os.rename("sounds/low", "sounds/deep")
        start = ("--init-from", "runs/logistic-1", "--epochs", "1")
        assert "which knows 1 of the 2 classes" in train("--audio", "sounds", *start)[2]

    @pytest.mark.usefixtures("small_mini")
    def test_bundle_and_cached_frames_are_specific_to_the_embedder(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert train(*self.quick, "--embedder", "vggish")[0] == 0
        status, _, err = train(*self.quick, "--embedder", "mini")
        assert status == 0
        assert "16 clips embedded, 0 cached" in err
        assert "using" not in err
        assert classifier.load("runs/logistic-2").card["embedders"] == ["mini"]
        assert "0 clips embedded, 16 cached" in train(*self.quick, "--embedder", "vggish")[2]
        monkeypatch.setenv("AUDIOTAG_HOME", "fresh")
        status, _, err = train(*self.quick)
        assert (status, "built-in embedder mini: VGGish is not installed" in err) == (0, True)
        assert classifier.load("runs/logistic-4").card["embedders"] == ["mini"]
        status, _, err = train(*self.quick, "--embedder", "vggish")
        assert (status, "audiotag weights fetch vggish" in err) == (2, True)

    def test_a_run_cannot_be_resumed_with_another_embedder(
        self, train: Train, small_mini: Path
    ) -> None:
        arguments = (*self.quick, "-o", "runs/x")
        assert train(*arguments, "--embedder", "mini")[0] == 0
        status, _, err = train(*arguments, "--resume")
        assert status == 2
        assert "embedders" in err

    def test_ctrl_c_ends_embedding_and_keeps_the_cache(
        self, train: Train, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        @contextlib.contextmanager
        def counting_bar(*arguments: Any, **options: Any) -> Iterator[Callable[..., None]]:
            yield (
                lambda n_done, n_clips: os.kill(os.getpid(), signal.SIGINT) if n_done == 3 else None
            )

        with monkeypatch.context() as stopping:
            stopping.setattr("audiotag.commands.train.counting_bar", counting_bar)
            status, out, err = train(*self.quick, "--jobs", "1")
        assert (status, out) == (130, "")
        assert err.endswith("\naudiotag: interrupted\n")
        assert not Path("runs").exists()
        found = re.search(r"(\d+) clips embedded, (\d+) cached", train(*self.quick)[2])
        assert found is not None
        assert int(found[2]) >= 3

    def test_folds_may_be_given_in_the_list(self, train: Train) -> None:
        rows = [f"sounds/{c}/{i}.wav,{c}|sound,{i % 2}" for c in ("low", "high") for i in range(8)]
        Path("list.csv").write_text("\n".join(["path,labels,fold", *rows]))
        arguments = ("--audio", "list.csv", *self.quick[2:], "--folds")
        status, out, _ = train(*arguments, "2")
        assert (status, out[:14]) == (0, "mAP of 2 folds")
        held = Run(Path("runs/logistic-1/fold-1")).held_out()
        assert {name[-5] for name in held} == set("0246")
        status, _, err = train(*arguments, "3")
        assert (status, err) == (2, "audiotag: error: the data names 2 folds; --folds says 3\n")
        Path("list.csv").write_text("\n".join(["path,labels,fold", *rows, rows[0]])[:-1])
        status, _, err = train(*arguments, "2")
        assert (status, "the fold is None, but 0 in list.csv, line 2" in err) == (2, True)
        Path("list.csv").write_text("\n".join(["path,labels,fold", *rows])[:-1])
        status, _, err = train(*arguments, "2")
        assert (status, "fold of only some clips; 1 of 16 have none" in err) == (2, True)
        assert "embedded" not in err
        status, _, err = train(*arguments[:-1])
        assert (status, "note: list.csv has a column of folds, which only --folds uses" in err) == (
            0,
            True,
        )

    def test_error_for_unreadable_audio_names_the_file(self, train: Train) -> None:
        Path("sounds/low/bad.wav").write_bytes(b"no sound")
        status, _, err = train(*self.quick)
        assert status == 2
        assert "sounds/low/bad.wav" in err
        assert "--max-bad N" in err
        status, _, err = train(*self.quick, "--max-bad", "1")
        assert status == 0
        assert re.search(r"warning: cannot read sounds/low/bad\.wav: .*; left out\n", err)
        assert "16 clips" in err

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (
                "file,labels,x\nsounds/low/9.wav,a\nno.wav,b\n",
                r"2 of 2 files in l\.csv are missing",
            ),
            ("path,labels\nsounds/low/1.wav,a\nno.wav,b\n", r"  no\.wav \(l\.csv, line 3\)\n"),
            (
                "name,tag\na,b\n",
                r"needs the column path .* and the column labels .*Received: name, tag",
            ),
            ("path,labels,start\nsounds/low/1.wav,a,x\n", "line 2: start must be seconds"),
            ("path,labels\nsounds/low/1.wav,a\n", r"l\.csv has only one class, 'a' \(1 clip\)"),
            ("path,labels\n", "has no rows below its header"),
            ("", "needs the column path"),
        ],
    )
    def test_invalid_lists_are_rejected(self, train: Train, text: str, message: str) -> None:
        Path("l.csv").write_text(text)
        status, out, err = train("--audio", "l.csv")
        assert (status, out) == (2, "")
        assert re.search(message, err)
        assert not Path("runs").exists()

    def test_classes_may_be_given(self, train: Train) -> None:
        Path("classes.csv").write_text("index,display_name\n0,low\n1,mid\n")
        status, _, err = train(*self.quick, "--labels", "classes.csv")
        assert status == 2
        assert "not among the 2 classes:\n  sounds/high/0.wav: " in err


def test_missing_weights_are_explained_with_three_remedies(
    train: Train, in_directory: Path, write_sound: Any
) -> None:
    for name in ("a", "b"):
        write_sound(f"cwd/sounds/{name}/1.wav")
    status, _, err = train("--audio", "sounds")
    assert (status, "audiotag weights fetch" in err) == (2, True)


# --- Invalid requests --------------------------------------------------------------------


@pytest.mark.usefixtures("run_directory")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", r"train on files of frames \(--frames\) or on audio \(--audio\); neither is given\n"),
        ("--frames data --audio data", r"on audio \(--audio\); not on both"),
        ("--frames data --audio-root .", "--audio-root is for the paths in the CSV of --audio"),
        ("--frames data --embedder mini", "--audio; --frames are embedded already"),
        ("--frames nowhere", "no file or directory nowhere"),
        ("--frames no*.tfrecord", r"no file matches the pattern no\*\.tfrecord"),
        ("--frames empty", "no files of frames in empty"),
        ("--frames classes.csv", r"classes\.csv: not a file of frames.*: line 1.*\n.*TFRec"),
        ("--frames runs", "no files of frames in runs"),
        ("--frames runs/feature-attention-1", "no files of frames in runs/feature-attention-1"),
        ("--frames no\nwhere", r"no file or directory no\\nwhere\n"),
        ("--audio nowhere", "cannot read the list of clips nowhere: No such file"),
        ("--audio empty", "no folder in empty has audio files"),
        ("--frames data --head gruu", "Received: 'gruu'; did you mean 'gru'"),
        ("--frames data --set nonsense", "--set takes NAME=VALUE.* Received: 'nonsense'"),
        ("--frames data --set units=abc", "must be a whole number.* Received: 'abc'"),
        ("--frames data --set unit=5", "the head gru has no setting 'unit'; it has: units=512"),
        ("--frames data --set units=0", "units of the head gru must be from 1 to 100000"),
        ("--frames data --epochs -1", "--epochs must be at least 0. Received: -1"),
        ("--frames data --epochs many", "argument --epochs: invalid int value: 'many'"),
        ("--frames data --learning-rate nan", "--learning-rate must be more than 0 .* nan"),
        ("--frames data --loss mae", "argument --loss: invalid choice: 'mae'"),
        ("--frames data --weight-decay 0.1", "--weight-decay is for the optimiser adamw"),
        ("--frames data --sampling run", "--sampling run needs --n-frames"),
        ("--frames data --jobs 0", "--jobs must be at least 1. Received: 0"),
        ("--frames data --max-bad -1", "--max-bad: must be a whole number, 0 or more"),
        ("--frames data --max-bad x", "--max-bad: must be a whole number.* Received: x"),
        ("--frames data --labels no.csv", r"cannot read the labels no\.csv"),
        ("--frames data --labels two.csv", "has the label 2, but there are 2 classes"),
        ("--frames data --val nowhere", "no file or directory nowhere"),
        ("--frames data --val unlabelled.tfrecord", "no validation clip has a label"),
        ("--frames data --val-share 1.5", "must lie between 0 and 1. Received: 1.5"),
        ("--frames data --val-share nan", "must lie between 0 and 1. Received: nan"),
        ("--frames data --folds 2 --val data", "leave out --val"),
        ("--frames nowhere --folds 1", "number of folds must be 2 or more. Received: 1"),
        ("--frames data --folds 81", "that of recordings, 80. Received: 81"),
        ("--frames data --folds 2 --val-share 0.2", "leave out --val-share"),
        ("--frames data --val data --val-share 0.2", "leave out --val-share"),
        ("--frames nowhere --val-share 1", "must lie between 0 and 1. Received: 1"),
        ("--frames nowhere -o data", r"data contains other files than a run \(a\.tfrecord, b\.tf"),
        ("--frames nowhere -o runs/feature-attention-1", "already contains a run"),
        ("--frames nowhere --resume -o empty", "empty is not a training run"),
        ("--frames data --set units=9999999999", "units of the head gru must be from 1 to 100000"),
        ("--frames data --weight-decay 100", "--weight-decay must be from 0 to 10"),
        ("--frames unlabelled.tfrecord", "none of the 20 clips has labels"),
        ("--frames unlabelled.tfrecord --folds 2", "none of the 20 clips has labels"),
        ("--frames data -o runs/feature-attention-1", "already contains a run; continue it with"),
        ("--frames data -o classes.csv", "cannot write classes.csv: classes.csv is not a dir"),
        ("--frames data --resume", "there is no run of gru in runs/ to resume; choose one with -o"),
        ("--frames data --resume -o none", "none is not a training run: it has no config.json"),
        ("--frames data --init-from nowhere", "there is no nowhere"),
        ("--frames data --init-from empty", "empty is not a bundle: it has no bundle.json"),
    ],
)  # fmt: skip
def test_invalid_requests_are_explained_without_a_traceback(
    train: Train, arguments: str, message: str
) -> None:
    Path("empty").mkdir()
    Path("two.csv").write_text("index,display_name\n0,a\n1,b\n")
    records = [make_record({"id": f"u{i}"}, {"audio": make_frames(2, i)}) for i in range(20)]
    write_records(Path("unlabelled.tfrecord"), *records)
    before = files_below(Path())
    status, out, err = train(*filter(None, arguments.split(" ")))
    assert (status, out) == (2, "")
    assert re.search(message, err)
    assert files_below(Path()) == before


def test_unlabelled_frames_cannot_be_trained_on(
    train: Train, command_line: Train, in_directory: Path, small_home: Path, write_sound: Any
) -> None:
    for number in range(12):
        write_sound(f"cwd/sounds/{number}.wav", seed=number)
    for name in ("all.tfrecord", "all.npz"):
        assert command_line("embed", "sounds", "-o", name)[0] == 0
        assert len(list(read_frames(name))) == 12
        status, _, err = train("--frames", name)
        assert status == 2
        assert "none of the 12 clips has labels" in err
        assert "audiotag embed --format tfrecord --labels" in err
