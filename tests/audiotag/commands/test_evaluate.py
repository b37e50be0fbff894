"""The commands for trained runs and bundles: evaluate, predict, export, inspect."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import classifier
import cli
from tests.support.frames import write_labelled_frames
from tests.support.records import make_frames, make_record, write_records
from vggish import read_frames

CommandLine = Callable[..., tuple[int, str, str]]

RUN = "runs/feature-attention-1"
KEYS = {
    "mAP", "mAUC", "d_prime", "lwlrap", "GAP", "Hit@1", "PERR", "n_clips", "n_unlabelled",
    "embedders",
}  # fmt: skip
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}


@pytest.fixture(autouse=True)
def _in_run_directory(run_directory: Path) -> None:
    """Run every test in a copy of the directory of `trained`."""


def strict(text: str) -> Any:
    """Parse JSON; fail on NaN and infinity."""
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def damage(path: str, place: int) -> None:
    data = bytearray(Path(path).read_bytes())
    data[place] ^= 1
    Path(path).write_bytes(data)


@pytest.fixture
def other_frames() -> None:
    """Frames without labels, of six classes, of another embedder, and with a damaged record."""
    records = [make_record({"id": f"u{i}"}, {"audio": make_frames(2, i)}) for i in range(20)]
    write_records(Path("unlabelled.tfrecord"), *records)
    write_labelled_frames(Path("six.tfrecord"), 12, n_classes=6)
    write_labelled_frames(Path("mini.tfrecord"), 12, embedder="mini")
    write_labelled_frames(Path("damaged.tfrecord"), 12)
    damage("damaged.tfrecord", -30)


# --- audiotag evaluate -------------------------------------------------------------------


class TestEvaluate:
    def test_evaluation_prints_a_table_of_metrics(self, command_line: CommandLine) -> None:
        status, out, err = command_line("evaluate", RUN, "--frames", "eval")
        assert (status, err) == (0, "")
        value = re.search(r"^mAP +(\d\.\d{4})  average precision, mean over classes$", out, re.M)
        assert value is not None
        assert float(value[1]) > 0.9
        assert re.search(r"^n_clips +40  clips with labels$", out, re.MULTILINE)
        # With so few classes there is one list instead of best and worst.
        line = r"(dog|cat|rain|wind) +[01]\.\d{3} +12\n"
        assert re.search(rf"^classes, best first +AP  clips\n({line}){{4}}$", out, re.MULTILINE)
        assert "worst" not in out

    def test_stdout_has_only_json(self, command_line: CommandLine) -> None:
        status, out, err = command_line("evaluate", f"{RUN}/bundle", "--frames", "eval", "--json")
        found = strict(out)
        assert (status, err) == (0, "")
        assert found.keys() >= KEYS
        assert (found["n_clips"], found["n_unlabelled"]) == (40, 0)
        assert 0.9 < found["mAP"] <= 1

    @pytest.mark.usefixtures("other_frames")
    def test_undefined_metrics_are_null(self, command_line: CommandLine) -> None:
        write_labelled_frames(Path("one.tfrecord"), 1)
        status, out, _ = command_line("evaluate", RUN, "--frames", "one.tfrecord", "--json")
        assert (status, strict(out)["mAUC"]) == (0, None)
        arguments = ["evaluate", RUN, "--frames", "eval", "unlabelled.tfrecord", "--json"]
        status, out, err = command_line(*arguments)
        assert (status, strict(out)["n_unlabelled"]) == (0, 20)
        assert err == "audiotag: warning: clips without labels: 20 of 60\n"
        assert command_line(*arguments, "--quiet")[2] == ""

    def test_classes_and_a_plot_are_written(self, command_line: CommandLine) -> None:
        arguments = ["evaluate", RUN, "--frames", "eval"]
        status, _, _ = command_line(*arguments, "--per-class", "new/c.csv", "--plot", "new/p.png")
        assert status == 0
        with open("new/c.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["display_name"] for row in rows] == ["dog", "cat", "rain", "wind"]
        assert all(float(row["AP"]) > 0.8 and row["clips"] == "12" for row in rows)
        assert Path("new/p.png").read_bytes().startswith(b"\x89PNG")

    def test_a_full_disk_does_not_lose_the_table(
        self, command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("classifier.reports.evaluation.Evaluation.write_per_class_csv", full)
        arguments = ["evaluate", RUN, "--frames", "eval", "--per-class", "c.csv"]
        status, out, err = command_line(*arguments)
        assert (status, out[:4]) == (2, "mAP ")
        assert err == "audiotag: error: cannot write c.csv: No space left on device\n"

    @pytest.mark.usefixtures("other_frames")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("", "the following arguments are required: --frames"),
            ("--frames eval", r"name a bundle to evaluate, or a run to --watch \(and not both\)"),
            (f"{RUN} --watch {RUN} --frames eval", "and not both"),
            ("nowhere --frames eval", "there is no nowhere"),
            ("data --frames eval", r"data is not a bundle: it has no bundle\.json"),
            (f"{RUN} --frames nowhere", "no file or directory nowhere"),
            (f"{RUN} --frames unlabelled.tfrecord", "none of the 20 clips has labels"),
            (f"{RUN} --frames six.tfrecord", r"\(six.tfrecord, record 5\) has the label 4, but th"),
            (f"{RUN} --frames damaged.tfrecord", r"damaged\.tfrecord, record 12: damaged"),
            (f"{RUN} --frames mini.tfrecord", r"mini\.tfrecord, record 1: made by the embed.*mini"),
            (f"{RUN} --frames eval --max-bad -1", "--max-bad: must be a whole number, 0 or more"),
            (f"{RUN} --frames eval --per-class data", "--per-class data: it is a directory"),
            (f"{RUN} --frames eval --per-class eval/e.tfrecord", "e.tfrecord is one of the inputs"),
            (f"{RUN} --frames eval --per-class {RUN}/bundle/labels.csv", "is one of the inputs"),
            (
                f"{RUN} --frames nowhere --plot x.doc",
                r"cannot draw x\.doc: use a name that ends in",
            ),
            (f"{RUN} --frames eval --plot a.png --per-class a.png", "name the same file, a.png"),
            ("--watch nowhere --frames eval", "nowhere is not a training run"),
            (
                f"--watch {RUN} --frames six.tfrecord",
                "'clip0-4'.* has the label 4, but there are 4",
            ),
            (f"--watch {RUN} --frames eval --plot x.png", "are for one bundle, not for --watch"),
        ],
    )
    def test_invalid_requests_are_explained_without_a_traceback(
        self, command_line: CommandLine, arguments: str, message: str
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in Path().rglob("*")}
        status, out, err = command_line("evaluate", *arguments.split())
        assert (status, out) == (2, "")
        assert re.search(message, err)
        assert "Traceback" not in err
        assert {path: path.stat().st_mtime_ns for path in Path().rglob("*")} == before

    @pytest.mark.usefixtures("other_frames")
    def test_force_and_max_bad_accept_what_is_refused(self, command_line: CommandLine) -> None:
        status, out, _ = command_line("evaluate", RUN, "--frames", "mini.tfrecord", "--force")
        assert (status, re.findall(r"n_clips +(\d+) ", out)) == (0, ["12"])
        frames = ["--frames", "damaged.tfrecord", "--max-bad", "1"]
        status, out, err = command_line("evaluate", RUN, *frames)
        assert (status, re.findall(r"n_clips +(\d+) ", out)) == (0, ["11"])
        assert (
            "skipped damaged or invalid records or files: 1 (damaged.tfrecord, record 12: damaged"
            in err
        )

    @pytest.mark.parametrize("name", ["head.onnx", "labels.csv", "bundle.json"])
    def test_a_damaged_bundle_is_reported(self, command_line: CommandLine, name: str) -> None:
        damage(f"{RUN}/bundle/{name}", 0)
        status, out, err = command_line("evaluate", RUN, "--frames", "eval")
        assert (status, out) == (2, "")
        assert re.search(rf"audiotag: error: .*{re.escape(name)}", err)
        assert "audiotag export RUN -o DIR" in err

    def test_watching_a_finished_run_evaluates_its_checkpoints(
        self, command_line: CommandLine
    ) -> None:
        status, out, err = command_line("evaluate", "--watch", RUN, "--frames", "eval")
        assert (status, err) == (0, "")
        assert [line[:14] for line in out.splitlines()] == [f"epoch   {n}  mAP" for n in (1, 2, 3)]
        status, out, _ = command_line("evaluate", "--watch", RUN, "--frames", "eval", "--json")
        lines = [strict(line) for line in out.splitlines()]
        assert [line["epoch"] for line in lines] == [1, 2, 3]
        assert all(line.keys() >= KEYS for line in lines)
        Path(f"{RUN}/checkpoints/epoch-0002.npz").unlink()
        status, out, err = command_line("evaluate", "--watch", RUN, "--frames", "eval")
        assert [line[:9] for line in out.splitlines()] == ["epoch   1", "epoch   3"]
        assert err.startswith("audiotag: note: not evaluated: epoch 2; ")

    def test_watching_continues_until_interrupted(self) -> None:
        Path(f"{RUN}/metrics.json").unlink()  # as if training were still running
        latest = Path(f"{RUN}/checkpoints/epoch-0003.npz")
        latest.unlink()
        command = [sys.executable, "-m", "cli", "evaluate", "--watch", RUN, "--frames", "eval"]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True
        ) as process:
            assert process.stdout is not None
            assert [process.stdout.readline()[:9] for _ in range(2)] == ["epoch   1", "epoch   2"]
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=30)
        assert (process.returncode, out, err) == (130, "", "")


def test_tensorflow_is_not_needed_to_use_a_bundle() -> None:
    script = (
        "import cli, sys\n"
        "frames = ['--frames', 'eval']\n"
        f"for command in (['evaluate', '{RUN}'], ['predict', '{RUN}', '-o', 'x.csv']):\n"
        "    assert cli.main([*command, *frames]) == 0\n"
        f"assert cli.main(['inspect', '{RUN}', 'data']) == 0\n"
        "assert cli.main(['train', '--list-heads']) == 0\n"
        "assert not {'tensorflow', 'tf_keras', 'onnx'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"audiotag: 40 clips -> x\.csv, [\d,]+ clips/s\n", done.stderr)


# --- audiotag predict --------------------------------------------------------------------


class TestPredict:
    def test_youtube8m_csv_is_the_default_format(self, command_line: CommandLine) -> None:
        arguments = ["predict", RUN, "--frames", "eval", "-o", "new/p.csv"]
        status, out, err = command_line(*arguments)
        assert (status, out) == (0, "")
        assert re.fullmatch(r"audiotag: 40 clips -> new/p\.csv, [\d,]+ clips/s\n", err)
        header, *rows = Path("new/p.csv").read_text().splitlines()
        assert header == "VideoId,LabelConfidencePairs"
        pair = r"[0-3] (0|1|0\.\d+|\d\.?\d*e-\d\d)"
        assert all(re.fullmatch(rf"clip2-\d+,{pair}( {pair}){{3}}", row) for row in rows)
        assert len(rows) == 40
        status, _, err = command_line(*arguments, "--top-k", "2", "--quiet")
        assert (status, err) == (0, "")
        header, first = Path("new/p.csv").read_text().splitlines()[:2]
        # Clip 0 has the classes 0 and 1.
        assert sorted(first.split(",")[1].split()[::2]) == ["0", "1"]

    def test_all_formats_contain_the_same_scores(self, command_line: CommandLine) -> None:
        parquet = pytest.importorskip("pyarrow.parquet")
        names = {"wide": "w.csv", "jsonl": "j.jsonl", "parquet": "p.parquet"}
        for file_format, name in names.items():
            arguments = ["--frames", "eval", "-o", name, "--format", file_format]
            assert command_line("predict", RUN, *arguments)[0] == 0
        clips = list(read_frames("eval/e.tfrecord"))
        expected = classifier.load(RUN).scores(
            *classifier.bundles.bundle.pad([c.frames for c in clips])
        )
        with open("w.csv", newline="") as file:
            header, *rows = csv.reader(file)
        assert header == ["fname", "dog", "cat", "rain", "wind"]
        assert [row[0] for row in rows] == [clip.clip_id for clip in clips]
        np.testing.assert_allclose([list(map(float, row[1:])) for row in rows], expected, 1e-5)
        lines = [strict(line) for line in Path("j.jsonl").read_text().splitlines()]
        ranked = [[tag["index"] for tag in line["tags"]] for line in lines]
        assert ranked == np.argsort(-expected, 1, kind="stable").tolist()
        assert lines[0]["tags"][0].keys() == {"label", "mid", "index", "score"}
        table = parquet.read_table("p.parquet").to_pydict()
        np.testing.assert_allclose(table["scores"], expected, 1e-5)

    def test_closed_pipe_of_predictions_is_not_an_error(self) -> None:
        audiotag = f"{sys.executable} -m cli predict {RUN} --frames data eval --format"

        def shell(command: str) -> tuple[list[str], str]:
            done = subprocess.run(
                ["bash", "-c", command + "; echo ${PIPESTATUS[@]}"],
                capture_output=True, text=True, env=ENVIRONMENT, check=True,
            )  # fmt: skip
            return done.stdout.splitlines(), done.stderr

        out, err = shell(f"{audiotag} yt8m -o - | head -1")
        assert out == ["VideoId,LabelConfidencePairs", "0 0"]
        assert re.fullmatch(r"(audiotag: 120 clips -> standard output, [\d,]+ clips/s\n)?", err)
        out, err = shell(f"{audiotag} jsonl -o - > /dev/full")
        assert (out, "No space left" in err, "Traceback" in err) == (["2"], True, False)

    @pytest.mark.usefixtures("other_frames")
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("", "the following arguments are required: BUNDLE, --frames, -o/--out"),
            ("nowhere --frames eval -o x.csv", "there is no nowhere"),
            (f"{RUN} --frames nowhere -o x.csv", "no file or directory nowhere"),
            (f"{RUN} --frames eval -o x.txt", r"cannot tell the format of x\.txt; use \.csv, "),
            (f"{RUN} --frames eval -o -", "-o - needs --format, as there is no suffix"),
            (f"{RUN} --frames eval -o x.csv --format tsv", "invalid choice: 'tsv'"),
            (f"{RUN} --frames eval -o x.csv --top-k 0", "--top-k must be at least 1. Received: 0"),
            (f"{RUN} --frames eval -o data --format wide", "cannot write data: Is a directory"),
            (f"{RUN} --frames eval -o classes.csv/x.csv", r"cannot write classes\.csv/x\.csv"),
            (f"{RUN} --frames eval -o data/../eval/e.tfrecord --format wide", "one of the inputs"),
            (f"{RUN} --frames eval -o {RUN}/bundle/head.onnx --format wide", "one of the inputs"),
            (f"{RUN} --frames damaged.tfrecord -o x.csv", r"damaged\.tfrecord, record 12: damaged"),
            (
                f"{RUN} --frames mini.tfrecord -o x.csv",
                "record 1: made by the embedder 'mini', but",
            ),
        ],
    )
    def test_invalid_requests_are_explained_without_a_traceback(
        self, command_line: CommandLine, arguments: str, message: str
    ) -> None:
        before = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
        status, out, err = command_line("predict", *arguments.split())
        assert (status, out) == (2, "")
        assert re.search(message, err)
        assert "Traceback" not in err
        after = {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file()}
        assert after == before

    @pytest.mark.usefixtures("other_frames")
    def test_force_and_max_bad_accept_what_is_refused(self, command_line: CommandLine) -> None:
        frames = ["--frames", "mini.tfrecord", "damaged.tfrecord", "unlabelled.tfrecord"]
        arguments = ["predict", RUN, *frames, "-o", "x.csv", "--force", "--max-bad", "1"]
        status, _, err = command_line(*arguments)
        assert status == 0
        assert (
            "skipped damaged or invalid records or files: 1 (damaged.tfrecord, record 12: damaged"
            in err
        )
        assert len(Path("x.csv").read_text().splitlines()) == 1 + 12 + 11 + 20


# --- audiotag export ---------------------------------------------------------------------


class TestExport:
    def test_a_run_becomes_a_bundle(self, command_line: CommandLine) -> None:
        Path("m.json").write_text(command_line("evaluate", RUN, "--frames", "eval", "--json")[1])
        arguments = ["--metrics", "m.json", "--notes", "made clips", "--licence", "CC0"]
        status, out, err = command_line("export", RUN, "-o", "new/mine", *arguments)
        assert (status, out, err) == (0, "bundle: new/mine, 4 classes\n", "")
        made, own = classifier.load("new/mine"), classifier.load(RUN)
        assert (made.name, made.card["licence"], made.card["notes"]) == (
            "mine",
            "CC0",
            "made clips",
        )
        assert made.card["metrics"]["evaluation"]["n_clips"] == 40
        frames = make_frames(6)[None]
        np.testing.assert_allclose(made.scores(frames, [6]), own.scores(frames, [6]), atol=1e-6)

    def test_a_bundle_is_replaced_on_request_only(self, command_line: CommandLine) -> None:
        def export(*arguments: str) -> tuple[int, str, str]:
            return command_line("export", RUN, "-o", "mine", *arguments)

        assert export("--quiet") == (0, "", "")
        n_bytes = Path("mine/head.onnx").stat().st_size
        status, _, err = export()
        assert status == 2
        assert "mine is already a bundle" in err
        status, _, _ = export("--overwrite", "--float16", "--saved-model", "--name", "other")
        assert status == 0
        assert classifier.load("mine").name == "other"
        assert Path("mine/saved_model/saved_model.pb").exists()
        assert Path("mine/head.onnx").stat().st_size <= n_bytes + 1000

    def test_several_runs_become_an_ensemble(self, command_line: CommandLine) -> None:
        shutil.copytree(RUN, "runs/twin")
        status, out, _ = command_line("export", RUN, "runs/twin", "-o", "both")
        assert (status, out) == (0, "bundle: both, 4 classes\n")
        both, own = classifier.load("both"), classifier.load(RUN)
        assert len(both.card["head"]["members"]) == 2
        frames = make_frames(6)[None]
        np.testing.assert_allclose(both.scores(frames, [6]), own.scores(frames, [6]), atol=1e-6)
        status, _, err = command_line("train", "--frames", "data", "--init-from", "both")
        assert (status, "both is an ensemble; fine-tune one of its members" in err) == (2, True)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("", "the following arguments are required: RUN, -o/--out"),
            ("nowhere -o x", "nowhere is not a training run: it has no config.json"),
            ("data -o x", "data is not a training run: it has no config.json"),
            (f"{RUN}/bundle -o x", "bundle is not a training run: it has no config.json"),
            (f"{RUN} -o {RUN}", "exists and is not a bundle. Choose another directory"),
            (f"{RUN} -o {RUN} --overwrite", "exists and is not a bundle. Choose another directory"),
            (f"{RUN} -o classes.csv", "exists and is not a bundle"),
            (f"{RUN} -o classes.csv/x", r"cannot write classes\.csv/x"),
            (f"{RUN} -o x --metrics nowhere.json", r"cannot read nowhere\.json as a JSON object"),
            (f"{RUN} -o x --metrics classes.csv", r"cannot read classes\.csv as a JSON object"),
            (f"{RUN} -o x --metrics list.json", r"cannot read list\.json as a JSON object"),
            (f"{RUN} runs/../{RUN} -o x", "a run is given twice and would count twice"),
            (f"{RUN} renamed -o x", "the runs have different classes"),
            (
                "early -o x",
                r"best\.npz does not exist: the run stopped before its first",
            ),
        ],
    )
    def test_invalid_requests_are_explained_without_a_traceback(
        self, command_line: CommandLine, arguments: str, message: str
    ) -> None:
        for name in ("renamed", "early"):
            shutil.copytree(RUN, name)
        Path("renamed/labels.csv").write_text("index,display_name\n0,a\n1,b\n2,c\n3,d\n")
        Path("early/checkpoints/best.npz").unlink()
        Path("list.json").write_text("[1, 2]")
        before = sorted(Path().rglob("*"))
        status, out, err = command_line("export", *arguments.split())
        assert (status, out) == (2, "")
        assert re.search(message, err)
        assert "Traceback" not in err
        assert sorted(Path().rglob("*")) == before


# --- audiotag inspect --------------------------------------------------------------------


class TestInspect:
    def test_frames_are_counted(self, command_line: CommandLine) -> None:
        status, out, err = command_line("inspect", "data", "--labels", "classes.csv")
        assert (status, err) == (0, "")
        assert out.startswith("files of frames: 2 (")
        assert "clips: 80; " in out
        assert re.search(r"^  dog +24$", out, re.MULTILINE)
        assert "most frequent combinations of labels, of 4\n" in out

    def test_a_bundle_is_described(self, command_line: CommandLine) -> None:
        status, out, err = command_line("inspect", RUN)
        assert (status, err) == (0, "")
        assert out.startswith(f"bundle {RUN}/bundle: valid\n")
        assert re.search(r"^  head\.onnx +[\d.]+ KiB  fits$", out, re.MULTILINE)
        # Nested lists of the card are printed as lines, not in Python notation.
        assert "{'" not in out

    def test_frames_audio_and_bundles_are_inspected_together(
        self, command_line: CommandLine, write_sound: Any
    ) -> None:
        write_sound("cwd/sounds/a.wav", seconds=1.5)
        arguments = ["inspect", "data", "sounds", RUN]
        status, out, _ = command_line(*arguments)
        assert status == 0
        parts = out.split("\n\n")
        assert parts[0].startswith("bundle ")
        assert "\n\nfiles of frames: 2" in out
        assert "\n\naudio files: 1 (1.5 s); frames when embedded: 2\n" in out
        status, out, _ = command_line(*arguments, "--json")
        assert [part["inspected"] for part in strict(out)] == ["bundle", "frames", "audio"]

    def test_inspect_reports_damage(self, command_line: CommandLine, other_frames: None) -> None:
        damage(f"{RUN}/bundle/head.onnx", 0)
        Path("bad.wav").write_bytes(b"no sound")
        status, out, err = command_line("inspect", "damaged.tfrecord", RUN, "bad.wav")
        assert (status, err) == (1, "")
        assert "  damaged.tfrecord, record 12: damaged (wrong checksum)\n" in out
        assert f"bundle {RUN}/bundle: INVALID\n" in out
        assert re.search(r"^  head\.onnx .* differs$", out, re.MULTILINE)
        assert "  cannot read bad.wav: " in out
        for name in ("damaged.tfrecord", RUN, "bad.wav"):
            assert command_line("inspect", name)[0] == 1

    def test_a_plot_is_drawn(self, command_line: CommandLine) -> None:
        status, out, _ = command_line("inspect", "data", "--plot", "new/x.png")
        assert (status, "clips: 80" in out) == (0, True)
        assert Path("new/x.png").read_bytes().startswith(b"\x89PNG")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ("", "the following arguments are required: FILE"),
            ("nowhere", "no file or directory nowhere"),
            ("data nowhere", "no file or directory nowhere"),
            ("*.nothing", r"no file or directory \*\.nothing"),
            ("empty", "empty has no frames, bundles or audio files to inspect"),
            ("data --labels nowhere.csv", r"cannot read the labels nowhere\.csv"),
            (f"data {RUN} --plot x.png", "bundles cannot be drawn, nor frames and audio together"),
            (f"{RUN} --plot x.png", "bundles cannot be drawn"),
            ("data --plot x.doc", r"cannot draw x\.doc: use a name that ends in"),
            ("data --plot empty", "cannot write --plot empty: it is a directory"),
            ("-A.tfrecord", r"-A\.tfrecord is a file; write \./-A\.tfrecord"),
            ("data -A.tfrecord", r"-A\.tfrecord is a file; write \./-A\.tfrecord"),
        ],
    )
    def test_invalid_requests_are_explained_without_a_traceback(
        self, command_line: CommandLine, arguments: str, message: str
    ) -> None:
        Path("empty").mkdir()
        shutil.copy("data/a.tfrecord", "-A.tfrecord")
        status, out, err = command_line("inspect", *arguments.split())
        assert (status, out) == (2, "")
        assert re.search(message, err)
        assert "Traceback" not in err
        assert not Path("x.png").exists()


def test_export_accepts_embedders_and_calibration_clips(command_line: CommandLine) -> None:
    write_labelled_frames(Path("mini.tfrecord"), 60, embedder="mini", seed=4)
    more = ["--embedders", "vggish", "mini", "--calibrate", "data", "mini.tfrecord"]
    assert command_line("export", RUN, "-o", "both", *more)[0] == 0
    card = classifier.load("both").card
    assert card["embedders"] == ["vggish", "mini"]
    found = card["metrics"]["calibration"]
    assert {name: facts["n_clips"] for name, facts in found.items()} == {"vggish": 80, "mini": 60}
    assert card["calibration"].keys() == found.keys()
    status, _, err = command_line("export", RUN, "-o", "new", "--calibrate", "mini.tfrecord")
    assert (status, Path("new").exists()) == (2, False)
    assert "clips to calibrate on: made by the embedder 'mini'" in err


# --- Standard output ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        (f"predict {RUN} --frames eval -o p.csv >&-", 0, r"audiotag: 40 clips -> p\.csv, .*\n"),
        ("inspect data >&-", 2, "audiotag: error: standard output is closed, .*\n"),
        (
            f"evaluate {RUN} --frames eval >&-",
            2,
            "audiotag: error: standard output is closed, .*\n",
        ),
        (
            "inspect data >/dev/full",
            2,
            "audiotag: error: cannot write to standard output: No space left on device\n",
        ),
    ],
)
def test_closed_or_full_standard_output_is_handled(command: str, status: int, message: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m cli {command}"],
        env=ENVIRONMENT, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert done.returncode == status
    assert re.fullmatch(message, done.stderr)


def test_run_and_bundle_files_are_not_read_as_frames(command_line: CommandLine) -> None:
    arguments = ["predict", RUN, "--frames", ".", "-o", "p.csv"]
    assert "120 clips -> p.csv" in command_line(*arguments)[2]
    status, out, _ = command_line("inspect", ".", "--json")
    assert (status, [part["inspected"] for part in strict(out)]) == (0, ["bundle", "frames"])
    assert strict(out)[1]["n_files"] == 3


@pytest.mark.parametrize("command", ["evaluate", "predict", "export", "inspect"])
def test_help_has_examples_and_the_exit_status(command_line: CommandLine, command: str) -> None:
    status, out, _ = command_line(command, "--help")
    assert (status, "exit status:\n  0 " in out) == (0, True)


def test_ctrl_c_ends_a_benchmark_with_one_line() -> None:
    script = (
        "import os, signal\n"
        "from benchmarks.console import run_benchmark\n"
        "run_benchmark(lambda: os.kill(os.getpid(), signal.SIGINT))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (130, "\ninterrupted\n")
