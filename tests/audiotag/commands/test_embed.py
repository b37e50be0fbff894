from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cli
from tests.support.terminal import on_a_terminal
from vggish import read_frames
from vggish.common.choices import FRAME_FORMATS

Embed = Callable[..., tuple[int, str, str]]
VGGISH = "audiotag: using VGGish; for the small embedder: --embedder mini\n"


@pytest.fixture
def embed(capsys: pytest.CaptureFixture[str]) -> Embed:
    """Run `audiotag embed` in this process: status, stdout, stderr."""

    def run(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            status = cli.main(["embed", *map(str, arguments)])
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


@pytest.fixture
def sounds(small_home: Path, in_directory: Path, write_sound: Any) -> None:
    """Fill the working directory: a.wav (1 s), b.wav (2 s), d/c.wav (3 s), d/notes.txt, bad.wav."""
    for seed, name in enumerate(("a.wav", "b.wav", "d/c.wav")):
        write_sound(f"cwd/{name}", seconds=seed + 1.0, seed=seed)
    Path("d/notes.txt").write_text("notes")
    Path("bad.wav").write_bytes(b"no sound")


@pytest.mark.usefixtures("sounds")
class TestEmbed:
    def test_default_output_is_an_npz_in_the_working_directory(self, embed: Embed) -> None:
        status, out, err = embed("d/c.wav")
        assert (status, err) == (0, VGGISH)
        assert re.fullmatch(
            r"d/c\.wav -> c\.npz\n"
            r"3 frames \[128\] uint8, 3\.0 s of audio  \(vggish float32, \d+x real time\)\n",
            out,
        )
        (clip,) = read_frames("c.npz")
        assert clip.frames.shape == (3, 128)
        assert clip.metadata["embedder"]["weights_sha256"] == "5" * 64
        assert sorted(os.listdir()) == ["a.wav", "b.wav", "bad.wav", "c.npz", "d"]

    def test_out_dir_mirrors_the_tree_of_the_inputs(self, embed: Embed) -> None:
        status, out, err = embed("a.wav", "d", "--out-dir", "out", "--format", "csv")
        assert status == 0
        assert sorted(map(str, Path("out").rglob("*.csv"))) == ["out/a.csv", "out/d/c.csv"]
        assert "a.wav -> out/a.csv\nd/c.wav -> out/d/c.csv\n" in out
        assert err == f"{VGGISH}audiotag: note: 1 file skipped as not audio: d/notes.txt\n"

    def test_many_outputs_are_counted(self, embed: Embed) -> None:
        for n in range(12):
            Path(f"d/{n}.wav").write_bytes(Path("a.wav").read_bytes())
        assert "13 files -> out/\n" in embed("d", "--out-dir", "out")[1]

    @pytest.mark.parametrize("file_format", FRAME_FORMATS)
    def test_suffix_of_out_sets_the_format(self, embed: Embed, file_format: str) -> None:
        name = f"new/all.{file_format}"
        status, out, _ = embed("?.wav", "d/c.wav", "-o", name, "--values", "pca")
        assert (status, out.splitlines()[0]) == (0, f"3 clips -> {name}")
        assert "float32 (pca)" in out
        clips = list(read_frames(name))
        assert [(clip.clip_id, len(clip)) for clip in clips] == [("a", 1), ("b", 2), ("d/c", 3)]
        assert all(clip.frames.dtype == np.float32 for clip in clips)

    def test_bad_files_are_reported_and_the_others_embedded(self, embed: Embed) -> None:
        status, out, err = embed("a.wav", "bad.wav", "no,such.wav", "--errors", "e/errors.csv")
        assert status == 1
        assert "2 inputs of 3 failed" in out
        assert [line[:36] for line in err.splitlines()] == [
            VGGISH[:36],
            "audiotag: error: cannot read bad.wav",
            "audiotag: error: cannot open no,such",
        ]
        with open("e/errors.csv", newline="") as file:
            rows = list(csv.DictReader(file))
        assert [(row["input"], row["error"]) for row in rows] == [
            ("bad.wav", "AudioError"),
            ("no,such.wav", "AudioError"),
        ]
        assert f"audiotag: error: {rows[0]['message']}" == err.splitlines()[1]
        assert Path("a.npz").exists()
        embed("a.wav", "--errors", "e/errors.csv")
        assert Path("e/errors.csv").read_text() == "input,error,message\n"

    def test_no_output_is_written_if_all_inputs_fail(self, embed: Embed) -> None:
        assert embed("bad.wav", "-o", "all.csv")[0] == 1
        assert embed("bad.wav", "-o", "-", "--format", "csv")[:2] == (1, "")
        assert not Path("all.csv").exists()

    def test_quiet_prints_only_errors(self, embed: Embed) -> None:
        status, out, err = embed("bad.wav", "d", "-q", "--out-dir", "out")
        assert (status, out, err.count("\n")) == (1, "", 1)
        assert err.startswith("audiotag: error: cannot read bad.wav")

    def test_debug_shows_the_traceback(self, embed: Embed) -> None:
        _, _, err = embed("bad.wav", "--debug")
        assert "Traceback" in err
        assert "Traceback" not in embed("bad.wav")[2]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "nothing to embed: name an audio file"),
            (["d/notes"], "cannot open d/notes: No such file"),
            (["a.wav", "--jobs", "0"], "--jobs must be at least 1. Received: 0"),
            (["a.wav", "--hop", "0.965"], "multiple of 0.01 s .* Received: 0.965"),
            (["a.wav", "--hop", "nan"], "must be a number of seconds. Received: nan"),
            (["a.wav", "--hop", "-1"], "Received: -1"),
            (["a.wav", "--hop", "fast"], "argument --hop: invalid float value: 'fast'"),
            (["a.wav", "-o", "x.csv", "--out-dir", "y"], "not both"),
            (["a.wav", "-o", "x.wav2"], "'wav2' is none of npz, csv"),
            (["a.wav", "-o", "d"], "-o d is a directory; use --out-dir"),
            (["a.wav", "-o", "new/"], "-o new/ is a directory; use --out-dir"),
            (["a.wav", "-o", "-"], "-o - needs --format"),
            (["a.wav", "-o", "./a.wav", "--format", "csv"], "is one of the inputs and would be"),
            (["a.wav", "--errors", "a.wav"], "--errors a.wav is one of the inputs and would be"),
            (["a.wav", "--errors", "d"], "cannot write --errors d: it is a directory"),
            (["a.wav", "--out-dir", "b.wav"], "--out-dir b.wav is a file, not a directory"),
            (["a.wav", "--out-dir", "b.wav/x"], "cannot write b.wav/x: Not a directory"),
            (["a.wav", "-o", "b.wav/x.npz"], "-o b.wav/x.npz: b.wav is a file"),
            (["a.wav", "--files-from", "none"], "cannot read the list of files none"),
            (["a.wav", "--labels", "l.csv"], "npz files hold no labels"),
            (["a.wav", "--label-names", "l.csv"], "explains the labels of --labels"),
            (["a.wav", "--labels", "l.csv", "--format", "jsonl"], "cannot read the labels l.csv"),
            (["d/notes.txt", "--format", "mp3"], "invalid choice: 'mp3'"),
        ],
    )
    def test_invalid_requests_are_explained_without_a_traceback(
        self, embed: Embed, arguments: list[str], message: str
    ) -> None:
        before = sorted(map(str, Path().rglob("*")))
        status, out, err = embed(*arguments)
        assert status == (1 if arguments == ["d/notes"] else 2)
        assert re.search(message, err)
        assert "Traceback" not in err
        assert "->" not in out
        assert sorted(map(str, Path().rglob("*"))) == before

    def test_unexpected_error_is_explained_without_a_traceback(
        self, embed: Embed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*arguments: Any) -> None:
            raise ZeroDivisionError("x")

        monkeypatch.setattr("audiotag.commands.embed.find_inputs", fail)
        status, _, err = embed("a.wav")
        assert (status, err) == (
            2,
            "audiotag: error: unexpected ZeroDivisionError: x (please report it, with the output "
            "of --debug)\n",
        )
        with pytest.raises(ZeroDivisionError):
            embed("a.wav", "--debug")

    def test_lists_of_files_are_read(self, embed: Embed) -> None:
        Path("list.txt").write_text("a.wav\r\n\r\nd\r\n")
        assert embed("b.wav", "--files-from", "list.txt", "-o", "all.jsonl")[0] == 0
        assert [clip.clip_id for clip in read_frames("all.jsonl")] == ["b", "a", "d/c"]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("clip,labels\na.wav,3|500\nb,7\n", [(3, 500), (7,), ()]),
            ('video_id,label\na,"3;500"\na,4\nd/c,\n', [(3, 500, 4), (), ()]),
            (
                'fname,labels\na,"Child speech, kid speaking"\nb,"3,Speech"\n',
                [(1,), (3, 0), ()],
            ),
            (
                "# Segments csv\n# num_ytids=2, num_segs=2\n"
                "# YTID, start_seconds, end_seconds, positive_labels\n"
                'a, 30.000, 40.000, "/m/0ytgt,/m/09x0r"\nb, 0.000, 10.000, "/m/09x0r"\n',
                [(1, 0), (0,), ()],
            ),
        ],
    )
    def test_labels_are_written(
        self, embed: Embed, text: str, expected: list[tuple[int, ...]]
    ) -> None:
        Path("l.csv").write_text(text)
        Path("n.csv").write_text(
            'index,mid,display_name\n0,/m/09x0r,Speech\n1,/m/0ytgt,"Child speech, kid speaking"\n'
        )
        arguments = ["a.wav", "b.wav", "d/c.wav", "-o", "x.tfrecord", "--labels", "l.csv"]
        status, _, err = embed(*arguments, "--label-names", "n.csv")
        assert status == 0
        assert [clip.labels for clip in read_frames("x.tfrecord")] == expected
        assert ("1 clip not in l.csv: d/c" in err) == ("d/c" not in text and "b," in text)

    LABEL_NAMES = "index,mid,display_name\n0,/m/09x0r,Speech\n"

    @pytest.mark.parametrize(
        ("text", "names", "message"),
        [
            ("clip,labels\na,3\nb,Speech\n", None, "l.csv, line 3: 'Speech' .*--label-names"),
            ("clip,labels\na,Noise\n", LABEL_NAMES, "'Noise' .* not in --label-names"),
            ("clip,tags\na,3\n", None, "needs the column labels .*Received: clip, tags"),
            ("name,labels\na,3\n", None, "needs the column clip .*Received: name, labels"),
            (
                "clip,labels\na,3\n",
                "index,name\n1,x\n",
                "needs the column display_name; optional: mid",
            ),
        ],
    )
    def test_invalid_labels_are_rejected_before_embedding(
        self, embed: Embed, text: str, names: str | None, message: str
    ) -> None:
        Path("l.csv").write_text(text)
        arguments = ["a.wav", "-o", "x.jsonl", "--labels", "l.csv"]
        if names is not None:
            Path("n.csv").write_text(names)
            arguments += ["--label-names", "n.csv"]
        status, _, err = embed(*arguments)
        assert status == 2
        assert re.search(message, err)
        assert not Path("x.jsonl").exists()

    def test_warnings_and_repeated_inputs_are_logged(self, embed: Embed, write_sound: Any) -> None:
        path = write_sound("cwd/cut.wav", seconds=3.0)
        os.truncate(path, path.stat().st_size - 20_000)
        status, _, err = embed("cut.wav", "./cut.wav")
        assert status == 0
        assert "audiotag: warning: cut.wav: truncated" in err
        assert "note: 1 input named repeatedly, embedded once" in err

    def test_resume_embeds_only_remaining_inputs(self, embed: Embed, write_sound: Any) -> None:
        arguments = ["a.wav", "bad.wav", "-o", "all.csv", "--resume"]
        assert embed(*arguments)[0] == 1
        write_sound("cwd/bad.wav", seconds=2.0)
        status, out, _ = embed(*arguments)
        assert (status, out.splitlines()[0]) == (0, "2 clips -> all.csv")
        assert "2 frames [128]" in out
        assert "1 input done by an earlier run" in out
        assert [clip.clip_id for clip in read_frames("all.csv")] == ["a", "bad"]

    def test_standard_input_and_output_are_supported(self, audiotag: Any) -> None:
        arguments = ("embed", "-", "-o", "-", "--format", "jsonl")
        done = audiotag(*arguments, input=Path("b.wav").read_bytes(), text=False)
        assert done.returncode == 0
        entry = json.loads(done.stdout)
        assert (entry["clip"], len(entry["frames"])) == ("stdin", 2)
        assert b"1 clip -> standard output" in done.stderr
        done = audiotag("embed", "-", input=b"", text=False)
        assert (done.returncode, b"standard input is empty" in done.stderr) == (1, True)

    def test_closed_pipe_is_not_an_error(self, small_home: Path) -> None:
        audiotag = f"{sys.executable} -m cli embed"
        environment = {**os.environ, "PYTHONPATH": str(Path(cli.__file__).parent)}

        def shell(command: str) -> tuple[list[str], str]:
            done = subprocess.run(
                ["bash", "-c", command + "; echo ${PIPESTATUS[@]}"],
                capture_output=True, text=True, env=environment, check=True,
            )  # fmt: skip
            return done.stdout.split(), done.stderr

        # More bytes than the buffer of a pipe.
        out, err = shell(f"{audiotag} a.wav b.wav --hop 0.01 -o - --format jsonl | head -c 1")
        assert (out, "Traceback" in err, "rror" in err) == (["{0", "0"], False, False)
        out, err = shell(f"{audiotag} bad.wav a.wav --hop 0.01 -o - --format jsonl | head -c 1")
        assert (out, "cannot read bad.wav" in err) == (["{1", "0"], True)
        out, err = shell(f"{audiotag} a.wav --embedder vggish | true")
        assert (out, err) == (["0", "0"], "")
        out, err = shell(f"{audiotag} a.wav -o - --format csv > /dev/full")
        assert (out, "cannot write to standard output: No space left" in err) == (["2"], True)
        out, err = shell(f"{audiotag} a.wav --embedder vggish > /dev/full")
        assert (out, err) == (["2"], "audiotag: error: [Errno 28] No space left on device\n")

    def test_control_characters_in_names_of_inputs_are_escaped(self, embed: Embed) -> None:
        os.rename("a.wav", "\x1b[31mred\n.wav")
        Path("\x1b[2J.wav").write_bytes(b"no sound")
        _, out, err = embed("\x1b[31mred\n.wav", "\x1b[2J.wav")
        assert "\x1b" not in out + err
        assert r"\x1b[31mred" in out
        assert r"\x1b[2J.wav" in err

    def test_a_link_is_written_through_and_a_device_is_refused(self, embed: Embed) -> None:
        Path("link.csv").symlink_to("target.csv")
        assert embed("a.wav", "-o", "link.csv", "--errors", "link.err")[0] == 0
        assert Path("link.csv").is_symlink()
        assert len(list(read_frames("target.csv"))) == 1
        os.mkfifo("fifo.csv")
        status, _, err = embed("a.wav", "-o", "fifo.csv")
        assert (status, "not a regular file; use -o -" in err) == (2, True)
        assert Path("fifo.csv").is_fifo()
        assert embed("a.wav", "-o", "a.csv", "--errors", "/dev/null")[0] == 0
        assert Path("/dev/null").is_char_device()

    def test_existing_error_list_is_kept_if_the_run_does_not_start(
        self, embed: Embed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        Path("errors.csv").write_text("yesterday's")
        monkeypatch.setenv("AUDIOTAG_HOME", "none")
        assert embed("a.wav", "--embedder", "vggish", "--errors", "errors.csv")[0] == 2
        assert Path("errors.csv").read_text() == "yesterday's"

    def test_failures_are_reported_if_the_run_is_aborted(self, embed: Embed) -> None:
        status, _, err = embed("bad.wav", "a.wav", "-o", "/dev/full/x.csv", "--errors", "e.csv")
        assert status == 2
        Path("out").mkdir()
        Path("out/a.npz").mkdir()
        status, _, err = embed("bad.wav", "a.wav", "--out-dir", "out", "--errors", "e.csv")
        assert "cannot read bad.wav" in err
        rows = csv.reader(Path("e.csv").read_text().splitlines())
        assert [row[0] for row in rows] == ["input", "bad.wav", "a.wav"]

    @pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
    def test_a_terminated_run_leaves_no_temporary_files(
        self, tmp_path: Path, write_sound: Any
    ) -> None:
        write_sound("cwd/long.wav", seconds=3000.0)
        scratch = tmp_path / "scratch"
        scratch.mkdir()
        environment = {**os.environ, "TMPDIR": str(scratch)}
        command = [sys.executable, "-m", "cli", "embed", "-", "-o", "x.csv", "--hop", "0.01"]
        with (
            open("long.wav", "rb") as source,
            subprocess.Popen(
                command, stdin=source, stderr=subprocess.PIPE, env=environment, text=True
            ) as process,
        ):
            deadline = time.monotonic() + 20
            while not list(scratch.iterdir()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.3)
            process.terminate()
            _, err = process.communicate(timeout=20)
        assert process.returncode == 143
        assert err.startswith(f"{VGGISH}\naudiotag: interrupted; ")
        assert list(scratch.iterdir()) == []

    def test_file_names_that_are_not_unicode_are_accepted(self, audiotag: Any) -> None:
        name = os.fsdecode(b"caf\xe9 \xe2\x98\x95.wav")
        os.rename("a.wav", name)
        for form in ("npz", "csv", "parquet", "jsonl", "tfrecord"):
            done = audiotag("embed", name, "x\udce9.wav", "--format", form, "--errors", "e.csv")
            assert done.returncode == 1, done.stderr
            assert r"caf\udce9 ☕.wav -> caf\udce9 ☕." + form in done.stdout
            assert r"cannot open x\udce9.wav" in done.stderr
            assert r"x\udce9.wav,AudioError" in Path("e.csv").read_text("utf-8")
            (clip,) = read_frames(Path(os.fsdecode(b"caf\xe9 \xe2\x98\x95." + form.encode())))
            assert clip.clip_id == r"caf\udce9 ☕"

    def test_a_terminal_shows_a_bar_that_ends_at_100_percent(self, write_sound: Any) -> None:
        for n in range(3):
            write_sound(f"cwd/long/{n}.wav", seconds=200.0, seed=n)
        Path("long/x.wav").write_bytes(b"no sound" * 500_000)
        seen = on_a_terminal("embed", "long", "--out-dir", "out", columns=80)
        frames = re.findall(r"embedding [^\r\n]*", seen)
        assert len(frames) > 3
        bar, left = r"embedding [━╸╺ ]+ +(\d+)%", r"([-\d]+:[-\d]{2}) left"
        shape = rf"{bar}  (\d)/4 files  \d+x real time  {left} *"
        steps = [re.fullmatch(shape, frame) for frame in frames]
        assert all(steps), frames
        assert max(map(len, frames)) <= 80
        percents = [int(step[1]) for step in steps if step]
        assert percents == sorted(percents)
        assert (percents[0], percents[-1]) == (0, 100)
        assert steps[-1] is not None
        assert steps[-1].groups() == ("100", "4", "00:00")
        assert "long/0.wav -> out/0.npz" in seen
        assert "embedding" not in on_a_terminal("embed", "a.wav", "--quiet", columns=80)


@pytest.mark.usefixtures("small_mini")
class TestEmbedders:
    """The choice of the embedder, its log messages, and its name in the outputs."""

    @pytest.fixture(autouse=True)
    def _sound(self, in_directory: Path, write_sound: Any) -> None:
        write_sound("cwd/a.wav", seconds=2.0)

    def test_without_vggish_the_built_in_embedder_is_used_and_logged(self, embed: Embed) -> None:
        status, out, err = embed("a.wav")
        assert (status, err) == (
            0,
            "audiotag: using the built-in embedder mini: VGGish is not installed; "
            "to install it: audiotag weights fetch vggish\n",
        )
        assert re.search(r"^2 frames \[128\] uint8, .*\(mini float32, \d+x real time\)$", out, re.M)
        (clip,) = read_frames("a.npz")
        assert clip.metadata["embedder"]["name"] == "mini"
        assert embed("a.wav", "--quiet") == (0, "", "")

    def test_embedder_chosen_by_name_is_not_logged(self, embed: Embed, small_home: Path) -> None:
        assert "(mini float32, " in embed("a.wav", "-o", "m.npz", "--embedder", "mini")[1]
        assert "(vggish float32, " in embed("a.wav", "-o", "v.npz", "--embedder", "vggish")[1]
        assert "(vggish int8, " in embed("a.wav", "-o", "i.npz", "--precision", "int8")[1]
        for name in ("mini", "vggish"):
            assert embed("a.wav", "--embedder", name)[2] == ""
        (mini,), (vggish,) = read_frames("m.npz"), read_frames("v.npz")
        assert not np.array_equal(mini.frames, vggish.frames)

    @pytest.mark.parametrize("file_format", FRAME_FORMATS)
    def test_every_format_names_mini(
        self, embed: Embed, file_format: str, small_mini: Path
    ) -> None:
        name = f"all.{file_format}"
        assert embed("a.wav", "-o", name, "--values", "pca")[0] == 0
        (clip,) = read_frames(name)
        sha256 = json.loads((small_mini / "card.json").read_text())["sha256"]
        embedder = clip.metadata["embedder"]
        assert embedder.pop("provider").endswith("ExecutionProvider")
        assert embedder == {
            "name": "mini",
            "weights_sha256": sha256,
            "model_sha256": sha256,
            "precision": "float32",
        }
        assert clip.metadata["pca_sha256"] is None

    def test_damaged_vggish_is_logged(self, embed: Embed, small_home: Path) -> None:
        damaged = small_home / "vggish" / "float32.onnx"
        damaged.write_bytes(b"short")
        status, _, err = embed("a.wav")
        assert (status, err.count("\n")) == (0, 1)
        assert re.search(
            rf"mini: the weights 'vggish' are damaged: {damaged} has 5 bytes, not [\d,]+\. "
            "Install them again: audiotag weights fetch vggish$",
            err,
        )
        assert "damaged" in embed("a.wav", "--embedder", "vggish")[2]

    def test_precision_that_mini_lacks_is_logged_or_refused(self, embed: Embed) -> None:
        status, _, err = embed("a.wav", "--precision", "int8")
        assert (status, "embedder mini (available only as float32): VGGish is" in err) == (0, True)
        status, out, err = embed("a.wav", "--precision", "int8", "--embedder", "mini")
        assert (status, out) == (2, "")
        assert "mini has the precision 'float32' only. Received: 'int8'" in err

    def test_mini_has_no_raw_embeddings(self, embed: Embed) -> None:
        for arguments in ([], ["--embedder", "mini"]):
            status, out, err = embed("a.wav", "--values", "raw", *arguments)
            assert (status, out, os.listdir()) == (2, "", ["a.wav"])
            assert "the embedder mini has no raw embeddings" in err
            assert "use the values pca, or VGGish" in err

    @pytest.mark.parametrize("out", [("-o", "all.jsonl"), ("--out-dir", "out")])
    def test_a_run_cannot_be_resumed_with_another_embedder(
        self, embed: Embed, request: pytest.FixtureRequest, write_sound: Any, out: tuple[str, str]
    ) -> None:
        Path("bad.wav").write_bytes(b"no sound")
        arguments = ("a.wav", "bad.wav", *out, "--resume")
        assert embed(*arguments)[0] == 1
        (before,) = Path().rglob("*.journal")
        journal = before.read_bytes()
        request.getfixturevalue("small_home")  # installs VGGish
        status, _, err = embed(*arguments)
        assert (status, before.read_bytes()) == (2, journal)
        assert "embedder.name: was 'mini', is now 'vggish'" in err
        assert "Use the same options (--embedder mini), or delete" in err
        write_sound("cwd/bad.wav")
        status, shown, _ = embed(*arguments, "--embedder", "mini")
        assert (status, "1 input done by an earlier run" in shown) == (0, True)

    def test_missing_weights_are_explained_with_three_remedies(self, embed: Embed) -> None:
        status, out, err = embed("a.wav", "--embedder", "vggish")
        assert (status, out, os.listdir()) == (2, "", ["a.wav"])
        for way in ("audiotag weights fetch", "audiotag weights install", "AUDIOTAG_HOME="):
            assert way in err

    def test_unknown_embedders_are_rejected(self, embed: Embed) -> None:
        status, _, err = embed("a.wav", "--embedder", "yamnet")
        assert (status, "invalid choice: 'yamnet'" in err) == (2, True)


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in cli.COMMANDS)])
def test_help_fits_a_terminal(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit_:
        cli.main(arguments)
    text = capsys.readouterr().out
    assert exit_.value.code == 0
    assert max(map(len, text.splitlines())) <= 80
    assert "embed" in text or arguments[0] in text


def test_names_outside_the_output_encoding_are_escaped(
    embed: Embed, small_home: Path, in_directory: Path, write_sound: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    write_sound("cwd/☕.wav")
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    assert embed("☕.wav")[0] == 0
    out.flush()
    assert b"\\u2615.wav -> \\u2615.npz" in out.buffer.getvalue()  # type: ignore[attr-defined]
