"""audiotag classify: tables, JSON and CSV of the predicted tags."""

from __future__ import annotations

import concurrent.futures
import csv
import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import classifier
import cli
from classifier.output.label_tracks import as_audacity, as_raven, as_srt, raven_header
from tests.support.bundles import NAMES, make_bundle

Classify = Callable[..., tuple[int, str, str]]

ENVIRONMENT = {"PYTHONPATH": str(Path(cli.__file__).parent)}
TINY = ("--model", "tiny")


@pytest.fixture
def classify(command_line: Any) -> Classify:
    """Run `audiotag classify` in this process with the tiny bundle: status, stdout, stderr."""
    return lambda *arguments: command_line("classify", *TINY, *arguments)


@pytest.fixture(autouse=True)
def _sounds(small_home: Path, in_directory: Path, write_sound: Any) -> None:
    """Fill the working directory: the bundle tiny, a.wav (5 s), d/b.flac (2 s), bad.wav, notes."""
    make_bundle(in_directory / "tiny")
    write_sound("cwd/a.wav", seconds=5.0, rate_hz=44_100, n_channels=2)
    write_sound("cwd/d/b.flac", seconds=2.0, seed=1)
    Path("d/notes.txt").write_text("notes")
    Path("bad.wav").write_bytes(b"no sound")


def expected(source: str, top_k: int = 5) -> Any:
    return classifier.Tagger(classifier.load("tiny")).tag(source, top_k=top_k)


def test_table_shows_tags_and_their_times(classify: Classify) -> None:
    status, out, err = classify("a.wav", "--top-k", "2")
    assert (status, err) == (0, "")
    tags = expected("a.wav", 2).tags
    head, *lines = out.splitlines()
    assert head == "a.wav  5.0 s"
    assert len(lines) == 2
    for line, tag in zip(lines, tags, strict=True):
        assert line.startswith(f"  {tag.label}")
        assert f"{100 * tag.score:.{0 if tag.score > 0.0995 else 1}f} %" in line
        assert re.search(r"throughout$|\d\.\d-\d\.\d s$", line)
    assert "\033" not in out


def test_json_is_one_object_for_one_clip_and_lines_for_several(classify: Classify) -> None:
    status, out, err = classify("a.wav", "--json", "--top-k", "3")
    assert (status, err) == (0, "")
    found = json.loads(out)
    tags = expected("a.wav", 3)
    keys = ["file", "duration_seconds", "model", "embedder", "tags", "warnings"]
    assert list(found) == keys
    assert found["file"] == "a.wav"
    assert found["tags"] == [tag.as_json() for tag in tags.tags]
    assert found["model"]["name"] == "tiny"
    assert found["embedder"]["name"] == "vggish"
    status, out, _ = classify("a.wav", "d", "--json", "--frames", "--top-k", "1")
    lines = [json.loads(line) for line in out.splitlines()]
    assert (status, [line["file"] for line in lines]) == (0, ["a.wav", "d/b.flac"])
    assert [frame["start_seconds"] for frame in lines[1]["frames"]] == [0.0, 0.96]
    assert all(len(frame["tags"]) == 1 for frame in lines[1]["frames"])


def test_csv_has_a_row_per_tag(classify: Classify) -> None:
    status, out, _ = classify("a.wav", "d", "--csv", "--top-k", "2")
    rows = list(csv.reader(io.StringIO(out)))
    assert status == 0
    assert rows[0] == ["file", "label", "mid", "index", "score"]
    assert [row[0] for row in rows[1:]] == ["a.wav"] * 2 + ["d/b.flac"] * 2
    assert [row[1] for row in rows[1:3]] == [tag.label for tag in expected("a.wav", 2).tags]
    _, out, _ = classify("d/b.flac", "--csv", "--frames", "--top-k", "1")
    rows = list(csv.reader(io.StringIO(out)))
    assert rows[0] == ["file", "start_seconds", "label", "mid", "index", "score"]
    assert [row[1] for row in rows[1:]] == ["0.0", "0.96"]


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("o.csv", "file,label"),
        ("new/o.json", "{"),
        ("o.jsonl", "{"),
        ("o.txt", "a.wav  5.0 s"),
        ("o.srt", "1\n00:00:00,000 --> "),
        ("O.Selections.txt", "Selection\tView"),
    ],
)
def test_a_file_is_written_in_the_format_of_its_suffix(
    classify: Classify, name: str, first: str
) -> None:
    assert classify("a.wav", "-o", name) == (0, "", "")
    assert Path(name).read_text("utf-8").startswith(first)


def test_segments_are_written_in_every_format(classify: Classify) -> None:
    spans = expected("a.wav", 2).segments
    assert len(spans) > 2
    in_order = sorted(spans, key=lambda span: span.start_seconds)
    _, out, _ = classify("a.wav", "--json", "--segments", "--top-k", "2")
    found = json.loads(out)
    assert found["segments"] == [span.as_json() for span in spans]
    assert "frames" not in found
    _, out, _ = classify("a.wav", "--csv", "--segments", "--top-k", "2")
    rows = list(csv.reader(io.StringIO(out)))
    columns = ["file", "start_seconds", "end_seconds", "label", "mid", "index", "score"]
    assert rows == [columns] + [
        ["a.wav", *map(str, (s.start_seconds, s.end_seconds, s.label, s.mid, s.index, s.score))]
        for s in in_order
    ]
    _, out, _ = classify("a.wav", "--segments", "--top-k", "2")
    head, *lines = out.splitlines()
    assert (head, len(lines)) == ("a.wav  5.0 s", len(spans))
    for line, span in zip(lines, in_order, strict=True):
        times = f"{span.start_seconds:.1f}-{span.end_seconds:.1f} s"
        assert re.match(rf"  {times}  {re.escape(span.label)} +█", line)


def test_label_tracks_hold_the_segments(classify: Classify) -> None:
    tags = expected("a.wav", 3)
    for option, text in (("--srt", as_srt(tags)), ("--audacity", as_audacity(tags))):
        assert classify("a.wav", option, "--top-k", "3") == (0, text, "")
    _, out, _ = classify("a.wav", "--raven", "--top-k", "3")
    path = os.path.abspath("a.wav")
    assert out == raven_header() + as_raven(path, tags, sample_rate_hz=44_100)


def test_csv_starts_with_a_byte_order_mark_on_request(classify: Classify) -> None:
    _, plain, _ = classify("a.wav", "--csv")
    assert classify("a.wav", "--csv", "--bom") == (0, "\ufeff" + plain, "")
    classify("a.wav", "-o", "x.csv", "--bom")
    assert Path("x.csv").read_bytes() == b"\xef\xbb\xbf" + plain.encode()
    classify("a.wav", "--csv", "--out-dir", "t", "--bom")
    assert Path("t/a.csv").read_bytes() == b"\xef\xbb\xbf" + plain.encode()
    status, _, err = classify("a.wav", "--json", "--bom")
    assert (status, "--bom is for CSV" in err) == (2, True)


def test_stream_of_a_file_with_one_is_1(classify: Classify) -> None:
    assert classify("a.wav", "--stream", "1")[:2] == classify("a.wav")[:2]
    status, _, err = classify("a.wav", "--stream", "2")
    assert status == 1
    assert "it has 1 audio stream, but stream 2 was chosen" in err
    assert "must be a whole number, 1 or more" in classify("a.wav", "--stream", "0")[2]


def test_raven_table_places_several_clips_one_after_another(
    classify: Classify, write_sound: Any
) -> None:
    write_sound("cwd/low.wav", seconds=2.0, rate_hz=8_000)
    status, out, _ = classify("a.wav", "bad.wav", "low.wav", "d", "--raven", "--top-k", "1")
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert status == 1
    assert [row["Selection"] for row in rows] == [str(n + 1) for n in range(len(rows))]
    begins = {"a.wav": 0.0, "low.wav": 5.0, "b.flac": 7.0}
    assert {row["Begin File"] for row in rows} == set(begins)
    for row in rows:
        offset = float(row["Begin Time (s)"]) - float(row["File Offset (s)"])
        assert offset == pytest.approx(begins[row["Begin File"]])
        assert row["High Freq (Hz)"] == ("4000.0" if row["Begin File"] == "low.wav" else "7500.0")
        assert os.path.exists(row["Begin Path"])


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode elsewhere")
def test_raven_table_has_the_sample_rate_of_a_file_whose_name_is_not_utf8(
    classify: Classify, write_sound: Any
) -> None:
    path = write_sound("cwd/low.wav", seconds=2.0, rate_hz=8_000)
    os.rename(path, os.fsdecode(b"low\xff \t.wav"))
    _, out, _ = classify(os.fsdecode(b"low\xff \t.wav"), "--raven", "--top-k", "1")
    rows = list(csv.DictReader(io.StringIO(out), delimiter="\t"))
    assert {row["High Freq (Hz)"] for row in rows} == {"4000.0"}


def test_out_dir_has_a_file_per_clip_in_the_same_tree(classify: Classify) -> None:
    status, out, err = classify("a.wav", "d", "bad.wav", "--srt", "--out-dir", "t")
    assert (status, out) == (1, "a.wav -> t/a.srt\nd/b.flac -> t/d/b.srt\n")
    assert re.fullmatch(
        r"audiotag: error: .*bad\.wav.*\naudiotag: note: 1 file skipped as not audio\n", err
    )
    assert Path("t/a.srt").read_text("utf-8") == as_srt(expected("a.wav"))
    assert Path("t/d/b.srt").read_text("utf-8") == as_srt(expected("d/b.flac"))
    assert sorted(path.name for path in Path("t").rglob("*.*")) == ["a.srt", "b.srt"]
    for option, name, begin in (
        ("--json", "b.json", '{\n  "file": "d/b.flac"'),
        ("--csv", "b.csv", "file,label"),
        ("--raven", "b.selections.txt", "Selection\t"),
        ("--audacity", "b.txt", "0."),
        ("--quiet", "b.txt", "d/b.flac  2.0 s\n"),
    ):
        classify("d", option, "--out-dir", "u")
        assert Path("u", name).read_text("utf-8").startswith(begin)


def test_many_output_files_are_counted(classify: Classify) -> None:
    for n in range(11):
        os.link("d/b.flac", f"d/{n}.flac")
    _, out, _ = classify("d", "--audacity", "--out-dir", "t")
    assert out == "12 files -> t/\n"
    assert classify("d", "--audacity", "--out-dir", "t", "--quiet")[1] == ""


def test_labels_and_exclude_labels_select_classes(classify: Classify) -> None:
    def labels(*options: str) -> list[str]:
        status, out, _ = classify("a.wav", "--csv", *options)
        assert status == 0
        return [row[1] for row in csv.reader(io.StringIO(out))][1:]

    assert set(labels("--labels", "bark", "--labels", "Rain")) == {"Bark", "Rain"}
    assert "Bark" not in labels("--exclude-labels", "Bark")
    assert len(labels("--exclude-labels", "Bark", "--exclude-labels", "Rain")) == len(NAMES) - 2


def test_plots_are_drawn_in_addition_to_the_output(classify: Classify) -> None:
    status, out, err = classify("a.wav", "--plot", "new/p.svg", "--top-k", "2")
    assert (status, err) == (0, "")
    assert out == classify("a.wav", "--top-k", "2")[1]
    assert b"<svg" in Path("new/p.svg").read_bytes()
    status, out, _ = classify("a.wav", "d", "bad.wav", "--csv", "--plot", "pictures/")
    assert (status, out) == (1, classify("a.wav", "d", "--csv")[1])
    drawn = sorted(path for path in Path("pictures").rglob("*") if path.is_file())
    assert drawn == [Path("pictures/a.png"), Path("pictures/d/b.png")]
    with open("a.wav", "rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "classify", *TINY, "-", "--plot", "in.png", "--srt"],
            stdin=stdin, capture_output=True, text=True,
            # matplotlib warns if its font cache is not writable; the warning must not be shown.
            env={**os.environ, **ENVIRONMENT, "MPLCONFIGDIR": "a.wav/below"},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == as_srt(expected("a.wav"))
    assert Path("in.png").read_bytes().startswith(b"\x89PNG")


def test_tags_below_the_threshold_are_omitted(classify: Classify) -> None:
    tags = expected("a.wav").tags
    _, out, _ = classify("a.wav", "--csv", "--threshold", tags[1].score)
    assert len(out.splitlines()) == 3


def test_bad_files_are_reported_and_the_others_classified(classify: Classify) -> None:
    status, out, err = classify("bad.wav", "absent.wav", "a.wav", "--json", "--top-k", "1")
    assert status == 1
    assert [json.loads(line)["file"] for line in out.splitlines()] == ["a.wav"]
    assert re.search(r"^audiotag: error: .*bad\.wav.*$", err, re.MULTILINE)
    assert re.search(r"^audiotag: error: .*absent\.wav: No such file", err, re.MULTILINE)
    assert len(err.splitlines()) == 2
    assert "Traceback (most" in classify("bad.wav", "--debug")[2]


def test_lists_and_standard_input_are_read(classify: Classify) -> None:
    Path("list.txt").write_text("a.wav\nd/b.flac\n")
    assert len(classify("--files-from", "list.txt", "--csv", "--top-k", "1")[1].splitlines()) == 3
    with open("a.wav", "rb") as stdin:
        done = subprocess.run(
            [sys.executable, "-m", "cli", "classify", *TINY, "-", "--json", "--top-k", "1"],
            stdin=stdin, capture_output=True, text=True, env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert found["file"] == "-"
    assert found["tags"] == [tag.as_json() for tag in expected("a.wav", 1).tags]


def test_silence_is_reported(classify: Classify) -> None:
    soundfile.write("quiet.wav", np.full(32_000, 5e-4), 16_000)
    assert classify("quiet.wav") == (0, "quiet.wav  2.0 s\n  silence\n", "")
    _, out, err = classify("quiet.wav", "--json")
    assert json.loads(out)["warnings"] == ["silence: no sample is beyond -60 dBFS"]
    assert err == "audiotag: warning: quiet.wav: silence: no sample is beyond -60 dBFS\n"
    assert classify("quiet.wav", "--json", "--quiet")[2] == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to classify: name an audio file, a directory, or -"),
        (["a.wav", "--top-k", "0"], "top_k must be at least 1"),
        (["a.wav", "--threshold", "2"], "threshold must be from 0 to 1"),
        (["a.wav", "--frames"], "--frames needs --json or --csv"),
        (["a.wav", "--json", "--csv"], "not allowed with argument"),
        (["a.wav", "--srt", "--csv"], "not allowed with argument"),
        (["a.wav", "--srt", "--frames"], "--frames needs --json or --csv"),
        (["a.wav", "--csv", "--frames", "--segments"], "rows of --frames or of --segments"),
        (
            ["a.wav", "d", "--srt"],
            "describes one clip, but there are 2: use --out-dir",
        ),
        (["a.wav", "d", "-o", "all.srt"], "describes one clip, but there are 2"),
        (["a.wav", "-o", "x", "--out-dir", "y"], "use -o for one file or --out-dir"),
        (["a.wav", "--out-dir", "bad.wav"], "cannot write --out-dir bad.wav"),
        (["a.wav", "--labels", "Bork"], "no class 'Bork'; did you mean 'Bark'"),
        (["a.wav", "--labels", "Bark", "--exclude-labels", "bark"], "leave no class"),
        (["a.wav", "--plot", "a.wav"], "--plot a.wav is one of the inputs"),
        (["a.wav", "--plot", "p.x"], r"cannot draw p\.x: use a name that ends in \.png"),
        (["a.wav", "--plot", "p.png", "--csv", "-o", "p.png"], "name the same file"),
        (["a.wav", "d", "--plot", "p.png"], "one plot, but there are 2 clips: name a directory"),
        (["a.wav", "--live-device", "2"], "--live-device is for --live, which is missing"),
        (["a.wav", "--api-key-file", "k"], "--api-key-file is for --server, which is missing"),
        (["a.wav", "--csv", "-o", "a.wav"], "a.wav is one of the inputs"),
        (["a.wav", "-o", "tiny"], "tiny: it is a directory"),
        (["a.wav", "-o", "new/"], "new/ names a directory; use --out-dir"),
        (["a.wav", "-o", "tags.xlsx"], r"unknown format \.xlsx of tags\.xlsx: use \.csv"),
        (["a.wav", "-o", 300 * "a"], "cannot write -o a+: File name too long"),
        (["a.wav", "--out-dir", ""], "--out-dir must name a directory"),
        (["a.wav", "--plot", "-"], "--plot needs a name"),
        (["a.wav", "--plot", "p.jpg"], r"cannot draw p\.jpg: use a name that ends in \.png"),
        (["", "a.wav"], "the name of an input is empty"),
        (["a.wav", "--server", ""], "the address of a service must begin with"),
        (["a.wav", "--server", "http://a..b"], "is not the address of a service"),
        (["a.wav", "--model", "nowhere"], "there is no nowhere"),
        (["a.wav", "--model", "d"], r"d is not a bundle: it has no bundle\.json"),
        (["a.wav", "--embedder", "mini"], r"by the embedder 'mini', but the bundle 'tiny'"),
        (["tiny"], "no audio files found"),
    ],
)
def test_invalid_requests_are_explained_without_a_traceback(
    classify: Classify, arguments: list[str], message: str
) -> None:
    status, out, err = classify(*arguments)
    assert (status, out) == (2, "")
    assert re.search(message, err)
    assert "Traceback" not in err


def test_out_dir_and_plot_never_overwrite_an_input(classify: Classify) -> None:
    Path("named.csv").write_bytes(Path("a.wav").read_bytes())
    Path("named.png").write_bytes(Path("a.wav").read_bytes())
    Path("list.txt").write_text("a.wav\n")
    Path("a.txt").symlink_to("list.txt")
    for arguments in (
        ("named.csv", "a.wav", "--csv", "--out-dir", "."),
        ("named.png", "a.wav", "--plot", "./"),
        ("--files-from", "list.txt", "--out-dir", "."),
    ):
        status, out, err = classify(*arguments)
        assert (status, out) == (2, "")
        assert "is one of the inputs and would be overwritten" in err
    assert Path("named.csv").read_bytes() == Path("a.wav").read_bytes()
    assert Path("list.txt").read_text() == "a.wav\n"


def test_an_unwritable_file_does_not_end_the_run(classify: Classify) -> None:
    Path("out/a.txt").mkdir(parents=True)
    Path("d/notes.txt").unlink()
    status, out, err = classify("a.wav", "d", "--out-dir", "out")
    assert (status, out) == (1, "d/b.flac -> out/d/b.txt\n")
    assert re.fullmatch("audiotag: error: a.wav: cannot write out/a.txt: .*\n", err)
    Path("drawn/a.png").mkdir(parents=True)
    status, out, err = classify("a.wav", "d", "--csv", "--plot", "drawn/")
    assert status == 2  # the first output is checked before the run starts
    Path("drawn/a.png").rmdir()
    Path("drawn/d/b.png").mkdir(parents=True)
    status, out, err = classify("a.wav", "d", "--csv", "--plot", "drawn/")
    assert (status, out) == (1, classify("a.wav", "d", "--csv")[1])
    assert "cannot write drawn/d/b.png" in err
    assert Path("drawn/a.png").is_file()


def test_existing_file_is_kept_if_there_is_nothing_to_write(classify: Classify) -> None:
    Path("tags.csv").write_text("before")
    assert classify("bad.wav", "--csv", "-o", "tags.csv")[0] == 1
    assert Path("tags.csv").read_text() == "before"
    assert [path.name for path in Path().glob(".audiotag*")] == []


def test_jsonl_of_one_clip_is_one_line(classify: Classify) -> None:
    assert classify("a.wav", "-o", "a.jsonl")[0] == 0
    (line,) = Path("a.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == "a.wav"


@pytest.mark.skipif(os.name == "nt", reason="has no such names")
def test_pipes_and_devices_are_written_to(classify: Classify) -> None:
    told = classify("a.wav", "--csv")[1]
    os.mkfifo("pipe")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        heard = pool.submit(Path("pipe").read_text)
        assert classify("a.wav", "--csv", "-o", "pipe")[0] == 0
        assert heard.result(30) == told
    Path("log").write_text("before\n")
    with open("log", "a") as log:
        command = [sys.executable, "-m", "cli", "classify", *TINY, "a.wav", "--csv", "--quiet"]
        subprocess.run(
            [*command, "-o", "/dev/stdout"], stdout=log, check=True,
            env={**os.environ, **ENVIRONMENT},
        )  # fmt: skip
    assert Path("log").read_text() == "before\n" + told


@pytest.mark.skipif(os.name == "nt", reason="needs a shell")
@pytest.mark.parametrize(
    ("redirection", "message"),
    [
        (">&-", "standard output is closed"),
        ("> /dev/full", "cannot write to standard output: No space left on device"),
        ("--files-from - <&-", "the list of files from standard input: it is closed"),
    ],
)
def test_closed_or_full_standard_streams_are_explained(redirection: str, message: str) -> None:
    done = subprocess.run(
        f"{sys.executable} -m cli classify --model tiny a.wav {redirection}", shell=True,
        capture_output=True, text=True, env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr
    assert "unexpected" not in done.stderr


def test_damaged_samples_are_reported_in_silent_clips_too(classify: Classify) -> None:
    soundfile.write("nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    status, out, err = classify("nan.wav")
    assert (status, out) == (0, "nan.wav  1.0 s\n  silence\n")
    assert err == "audiotag: warning: nan.wav: 16000 samples are NaN or infinite; taken as 0\n"
    assert json.loads(classify("nan.wav", "--json", "--segments")[1])["segments"] == []


def test_a_clip_level_head_has_no_frames(command_line: Any) -> None:
    make_bundle(Path("clips"), of_frames=False)
    status, out, _ = command_line("classify", "a.wav", "--model", "clips", "--top-k", "1")
    assert status == 0
    assert out.splitlines()[1].endswith("%")
    for options in (("--json", "--frames"), ("--segments",), ("--srt",), ("--raven",)):
        status, _, err = command_line("classify", "a.wav", "--model", "clips", *options)
        assert (status, "scores whole clips only" in err) == (2, True)
    status, _, _ = command_line("classify", "a.wav", "--model", "clips", "--plot", "p.png")
    assert (status, Path("p.png").read_bytes()[:4]) == (0, b"\x89PNG")


def test_error_for_a_missing_embedder_says_what_to_do(
    classify: Classify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTAG_HOME", "empty")
    status, _, err = classify("a.wav")
    assert status == 2
    for words in ("'tiny' is for frames of 'vggish' only", "audiotag weights fetch", "--model"):
        assert words in err


@pytest.mark.usefixtures("small_mini")
def test_automatic_choice_of_the_embedder_is_logged(
    command_line: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_bundle(Path("both"), embedders=["vggish", "mini"])
    arguments = ["classify", "a.wav", "--model", "both", "--json"]
    status, out, err = command_line(*arguments)
    assert (status, json.loads(out)["embedder"]["name"]) == (0, "vggish")
    assert re.fullmatch(r"audiotag: using VGGish; .*--embedder mini.*\n", err)
    monkeypatch.setenv("AUDIOTAG_HOME", "empty")
    status, out, err = command_line(*arguments)
    assert (status, json.loads(out)["embedder"]["name"]) == (0, "mini")
    assert re.fullmatch(r"audiotag: using the built-in .*audiotag weights fetch vggish\n", err)
    for option in ("--quiet", "--embedder=mini"):
        assert command_line(*arguments, option)[::2] == (0, "")


def test_control_characters_in_file_names_are_escaped(classify: Classify) -> None:
    name = "evil\x1b[2J\n.wav"
    os.link("a.wav", name)
    os.link("a.wav", os.fsdecode(b"latin\xe9.wav"))
    for arguments in ([name], [os.fsdecode(b"latin\xe9.wav")]):
        for option in ((), ("--json",), ("--csv",)):
            status, out, _ = classify(*arguments, *option)
            assert status == 0
            out.encode("utf-8")
            assert option == ("--csv",) or "\x1b" not in out


def run_on_terminal(*arguments: str, columns: int = 80, **environment: str) -> str:
    """Return what `audiotag classify` writes to a terminal."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    variables = {**os.environ, **ENVIRONMENT, "TERM": "xterm", **environment}
    variables.pop("COLUMNS", None)
    command = [sys.executable, "-m", "cli", "classify", *TINY, *arguments]
    with subprocess.Popen(command, stdout=follower, stderr=follower, env=variables):
        os.close(follower)
        seen = b""
        while True:
            try:
                part = os.read(leader, 1 << 16)
            except OSError:  # Linux reports a closed pseudo-terminal as an I/O error
                break
            if not part:
                break
            seen += part
    os.close(leader)
    return seen.decode()


def test_a_terminal_gets_colours_and_all_tables() -> None:
    seen = run_on_terminal("a.wav", "d", "bad.wav", "--top-k", "2")
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", seen)
    assert "\x1b[1ma.wav" in seen
    for words in ("a.wav  5.0 s", "d/b.flac  2.0 s", "audiotag: error: cannot read bad.wav"):
        assert words in plain, seen
    assert "\x1b[36m" not in run_on_terminal("a.wav", "--quiet", NO_COLOR="1")


def test_results_go_to_the_pipe_and_the_bar_to_the_terminal() -> None:
    leader, follower = pty.openpty()
    command = [sys.executable, "-m", "cli", "classify", *TINY, "a.wav", "d", "--csv"]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=follower, text=True,
        env={**os.environ, **ENVIRONMENT, "TERM": "xterm"},
    )  # fmt: skip
    os.close(follower)
    os.close(leader)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1 + 2 * len(NAMES)
    assert "\x1b" not in done.stdout


def test_an_encoding_without_blocks_gets_ascii() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cli", "classify", *TINY, "a.wav"],
        capture_output=True,
        env={**os.environ, **ENVIRONMENT, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert re.search(rb"  #+\.*  ", done.stdout)
    assert b"\\u" not in done.stdout


def test_heavy_packages_are_not_imported() -> None:
    script = (
        "import cli, sys\n"
        "assert cli.main(['classify', 'a.wav', '--model', 'tiny', '--quiet']) == 0\n"
        "heavy = {'tensorflow', 'tf_keras', 'onnx', 'scipy', 'rich', 'matplotlib', 'httpx',\n"
        "         'google.protobuf', 'resampy', 'pyarrow'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True,
        env={**os.environ, **ENVIRONMENT},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
