"""`audiotag weights`: end-to-end installation, interruptions, and messages."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.file_server import Answer, FileServer
from tests.support.weights import manifest_entry
from vggish.embedders.choice import load_embedder
from vggish.embedders.installed import find_installed
from vggish.embedders.manifest import find_known, known_weights
from vggish.errors import OptionError, WeightsError, WeightsNotInstalledError

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An `AUDIOTAG_HOME` that does not exist yet."""
    path = tmp_path / "home"
    monkeypatch.setenv("AUDIOTAG_HOME", str(path))
    return path


@pytest.fixture
def small_manifest(server: FileServer, tmp_path: Path) -> Path:
    """A manifest of two small files that are not weights, served by `server`."""
    paths = [tmp_path / "source" / name for name in ("vggish_model.ckpt", "vggish_pca_params.npz")]
    paths[0].parent.mkdir()
    paths[0].write_bytes(b"checkpoint" * 100_000)
    paths[1].write_bytes(b"pca" * 100)
    server.files = {path.name: path for path in paths}
    manifest = tmp_path / "manifest.json"
    manifest.write_text(json.dumps({"vggish": manifest_entry(server.url, *paths)}))
    return manifest


@contextlib.contextmanager
def running(*arguments: Any) -> Iterator[subprocess.Popen[str]]:
    """Run the command line in a subprocess, which is killed at the end of the block."""
    command = [sys.executable, "-m", "cli", *map(str, arguments)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.005)


def assert_said(done: subprocess.CompletedProcess[str], *texts: str, status: int = 2) -> None:
    """Check the exit status, and that stderr contains these texts and no traceback."""
    assert done.returncode == status, done
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr


def contents(home: Path) -> set[str]:
    """Kinds of files in an installation, without checksums and numbers."""
    return {path.name.split("-")[0] for path in (home / "vggish").iterdir()}


INSTALLATION = {"installed.json", "float32", "int8", "pca"}


@pytest.mark.slow
def test_fetch_downloads_converts_checks_and_installs(
    fetched: tuple[Path, subprocess.CompletedProcess[str]],
    seeded_home: Path,
    seeded_checkpoint: Path,
) -> None:
    _, done = fetched
    assert "vggish is installed and verified" in done.stdout
    assert "int8 against float32, after PCA: cosine 0.99" in done.stdout
    lines = done.stderr.splitlines()
    # Every line comes from audiotag: no messages of TensorFlow are shown.
    assert [line for line in lines if not line.startswith("audiotag: ")] == []
    assert sum("downloading http://127.0.0.1" in line for line in lines) == 2
    assert any("the published smoke test" in line for line in lines)
    assert contents(seeded_home) == INSTALLATION
    installed = find_installed(verify=True)
    checkpoint = known_weights()["vggish"].files["checkpoint"]
    assert installed.checkpoint_sha256 != checkpoint.sha256
    assert load_embedder()[0].weights_sha256 == installed.checkpoint_sha256
    assert load_embedder(precision="int8")[0].precision == "int8"


@pytest.mark.slow
def test_verified_weights_are_not_downloaded_again(
    seeded_home: Path, weights_server: FileServer, weights_manifest: Path, audiotag: Run
) -> None:
    n_requests = len(weights_server.requests)
    done = audiotag("weights", "fetch", "--manifest", weights_manifest)
    assert_said(done, "already installed; --force installs it again", status=0)
    assert len(weights_server.requests) == n_requests


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="kills the POSIX way")
def test_killed_installation_leaves_nothing_and_concurrent_ones_finish_it(
    home: Path, weights_server: FileServer, weights_manifest: Path
) -> None:
    command = ("weights", "fetch", "--manifest", weights_manifest)
    part = home / "vggish" / "downloads" / "vggish_model.ckpt.part"

    def begun(pattern: str) -> Callable[[], bool]:
        return lambda: any((home / "vggish").glob(pattern))

    first_request = len(weights_server.requests)
    weights_server.answers = [Answer(pause_seconds=0.001)]
    for moment in (
        lambda: part.exists() and part.stat().st_size > 20_000_000,
        begun("staging-*/float32.onnx"),
        begun("staging-*/ort.quant*/*"),
    ):
        with running(*command) as process:
            wait_until(moment, process)
            process.send_signal(signal.SIGKILL)
            process.wait()
        with pytest.raises(WeightsNotInstalledError):
            find_installed()
    with running(*command) as one, running(*command) as two:
        ends = [process.communicate(timeout=240) for process in (one, two)]
        assert [one.returncode, two.returncode] == [0, 0], ends
    heard = "".join(stderr for _, stderr in ends)
    assert heard.count("ONNX int8: calibrating") == 1
    assert heard.count("another process is installing 'vggish'; waiting for it") == 1
    assert contents(home) == INSTALLATION
    find_installed(verify=True)
    # The second run resumed the killed download; the others had nothing to download.
    (_, begin, _), (_, went_on, _) = (
        r for r in weights_server.requests[first_request:] if r[0] == "vggish_model.ckpt"
    )
    assert begin == 0
    assert went_on > 20_000_000


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_terminal_shows_a_progress_bar_and_ctrl_c_keeps_the_received_bytes(
    home: Path, small_manifest: Path, server: FileServer
) -> None:
    import pty

    server.usual = Answer(pause_seconds=0.2)  # 3 s in total
    part = home / "vggish" / "downloads" / "vggish_model.ckpt.part"
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "cli", "weights", "fetch", "--manifest", str(small_manifest)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "90"}
    with subprocess.Popen(command, stderr=theirs, env=environment) as process:
        os.close(theirs)
        try:
            screen = b""
            while b"/1.0 MB" not in screen:
                screen += os.read(ours, 4096)
            wait_until(lambda: part.stat().st_size > 100_000, process)
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(OSError):  # Linux: the pseudo-terminal was closed
                while more := os.read(ours, 4096):
                    screen += more
        finally:
            process.kill()
            os.close(ours)
    seen = screen.decode()
    assert process.returncode == 130
    assert "audiotag: downloading http://127.0.0.1" in seen
    assert "B/s" in seen
    assert seen.rstrip().endswith("audiotag: interrupted")
    assert not any(noise in seen for noise in ("Traceback", "oneDNN", "cuda", "absl"))
    assert part.stat().st_size > 100_000


@pytest.mark.slow
def test_forced_install_keeps_the_old_weights_usable_until_the_new_are_in_place(
    home: Path,
    fetched: tuple[Path, Any],
    weights_manifest: Path,
    seeded_checkpoint: Path,
    pca_file: Path,
    tmp_path: Path,
    write_sound: Callable[..., Path],
) -> None:
    shutil.copytree(fetched[0], home, copy_function=os.link)
    before = find_installed()
    # Users behind a firewall may keep the downloaded files in the directory of the weights.
    sources = home / "vggish"
    kept = [seeded_checkpoint, pca_file]
    for path in kept:
        os.link(path, sources / path.name)
    # Other calibration clips give another int8 network.
    sounds = [write_sound(f"{i}.wav", seed=i) for i in range(3)]
    with running(
        *("weights", "install", sources / "vggish_model.ckpt", "--manifest", weights_manifest),
        *("--force", "--calibration", *sounds),
    ) as process:
        while process.poll() is None:
            find_installed()
            time.sleep(0.01)
        _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    after = find_installed(verify=True)
    assert after.files["float32"] == before.files["float32"]
    assert after.files["int8"] != before.files["int8"]
    assert after.facts["calibration"] == ["0.wav", "1.wav", "2.wav"]
    assert contents(home) == INSTALLATION | {path.name for path in kept}
    assert len(list(after.directory.iterdir())) == 4 + len(kept)


@pytest.mark.slow
def test_weights_that_fail_the_smoke_test_are_not_installed(
    home: Path,
    weights_manifest: Path,
    seeded_checkpoint: Path,
    pca_file: Path,
    audiotag: Run,
    tmp_path: Path,
) -> None:
    manifest = json.loads(weights_manifest.read_text())
    manifest["vggish"]["smoke_test"]["raw_std"] *= 1.01
    wrong = tmp_path / "manifest.json"
    wrong.write_text(json.dumps(manifest))
    done = audiotag("weights", "install", pca_file, seeded_checkpoint, "--manifest", wrong)
    assert_said(done, "error: these are not the official weights", "raw_std", "(expected ")
    assert "raw_mean" not in done.stderr
    assert list((home / "vggish").iterdir()) == []
    with pytest.raises(WeightsNotInstalledError):
        find_installed()


def test_installed_weights_differ_from_those_with_another_pca(
    fetched: tuple[Path, Any], weights_manifest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIOTAG_HOME", str(fetched[0]))
    known = find_known("vggish", weights_manifest)
    assert find_installed().is_made_from(known)
    other = dataclasses.replace(known.files["pca"], sha256="0" * 64)
    changed = dataclasses.replace(known, files={**known.files, "pca": other})
    assert not find_installed().is_made_from(changed)


def test_install_recognises_files_and_says_which_is_missing(
    home: Path, small_manifest: Path, tmp_path: Path, audiotag: Run
) -> None:
    source = tmp_path / "source"
    checkpoint, pca = source / "vggish_model.ckpt", source / "vggish_pca_params.npz"
    option = ("--manifest", small_manifest)
    moved = pca.rename(tmp_path / "pca.bin")
    done = audiotag("weights", "install", checkpoint, *option)
    assert_said(done, "also needed: vggish_pca_params.npz (300 bytes), from http://127", "beside")
    moved.write_bytes(b"PCA" * 100)
    done = audiotag("weights", "install", checkpoint, moved, *option)
    assert_said(done, "pca.bin is not vggish_pca_params.npz: it has the sha256")
    checkpoint.write_bytes(checkpoint.read_bytes()[:-1])
    done = audiotag("weights", "install", checkpoint, moved, *option)
    assert_said(
        done, "vggish_model.ckpt is not a file of 'vggish': it has 999,999 bytes", "1,000,000"
    )
    done = audiotag("weights", "install", tmp_path / "none.ckpt", *option)
    assert_said(done, f"no file at {tmp_path / 'none.ckpt'}")
    assert not home.exists()


@pytest.mark.parametrize("place", ["beside", "named"])
def test_verified_file_that_is_not_a_checkpoint_fails_at_conversion(
    place: str, home: Path, small_manifest: Path, tmp_path: Path, pca_file: Path, audiotag: Run
) -> None:
    source = tmp_path / "source"
    checkpoint, pca = source / "vggish_model.ckpt", source / "vggish_pca_params.npz"
    shutil.copyfile(pca_file, pca)
    entry = manifest_entry(str, checkpoint, pca)
    for file in entry["files"].values():
        file["url"] = "http://127.0.0.1/x"
    small_manifest.write_text(json.dumps({"vggish": entry}))
    files = [checkpoint] if place == "beside" else [pca.rename(tmp_path / "p.bin"), checkpoint]
    done = audiotag("weights", "install", *files, "--manifest", small_manifest)
    assert_said(done, f"error: {checkpoint} is not a TensorFlow checkpoint in one file (V1)")
    assert list((home / "vggish").iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [
        (Answer(404), "HTTP 404"),
        (Answer(body=b"<html>", headers=(("Content-Type", "text/html"),)), "sent a web page"),
    ],
    ids=["404", "web page"],
)
def test_failed_download_suggests_a_manual_download(
    answer: Answer,
    complaint: str,
    home: Path,
    small_manifest: Path,
    server: FileServer,
    audiotag: Run,
) -> None:
    server.usual = answer
    done = audiotag("weights", "fetch", "--manifest", small_manifest)
    assert_said(done, server.url("vggish_model.ckpt"), complaint, "audiotag weights install")
    assert not list(home.rglob("*.ckpt*"))
    assert_said(audiotag("weights", "path"), "not installed")


@pytest.mark.parametrize(
    ("package", "action"),
    [("tensorflow", "fetch"), ("tensorflow", "install"), ("tf_keras", "fetch"), ("onnx", "fetch")],
)
def test_missing_package_is_reported_before_the_download(
    package: str, action: str, home: Path, small_manifest: Path, server: FileServer, tmp_path: Path
) -> None:
    blocked = f"import sys; sys.modules[{package!r}] = None; import cli; sys.exit(cli.main())"
    files = [str(tmp_path / "source" / "vggish_model.ckpt")] if action == "install" else []
    done = subprocess.run(
        [sys.executable, "-c", blocked, "weights", action, *files, "--manifest", small_manifest],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert_said(done, f"'{package}', which is not installed", "pip install 'audiotag[train]'")
    assert server.requests == []


def test_full_disk_is_reported_before_the_download(
    home: Path, small_manifest: Path, server: FileServer, audiotag: Run
) -> None:
    manifest = json.loads(small_manifest.read_text())
    manifest["vggish"]["files"]["checkpoint"]["size"] = 10**18
    small_manifest.write_text(json.dumps(manifest))
    done = audiotag("weights", "fetch", "--manifest", small_manifest)
    assert_said(done, f"not enough disk space in {home}", "AUDIOTAG_HOME")
    assert server.requests == []


def test_unwritable_home_is_a_weights_error(
    small_manifest: Path, tmp_path: Path, audiotag: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    homes = [tmp_path / "file" / "home"]
    if hasattr(os, "geteuid") and os.geteuid() != 0:  # root can write everywhere
        homes.append(tmp_path / "locked")
        homes[1].mkdir(mode=0o500)
    for home in homes:
        monkeypatch.setenv("AUDIOTAG_HOME", str(home))
        done = audiotag("weights", "fetch", "--manifest", small_manifest)
        assert_said(done, f"error: cannot install into {home}", "set AUDIOTAG_HOME")


def test_missing_calibration_recording_is_reported_first(
    home: Path, small_manifest: Path, server: FileServer, audiotag: Run
) -> None:
    done = audiotag("weights", "fetch", "--manifest", small_manifest, "--calibration", "none.wav")
    assert_said(done, "no calibration recording at none.wav")
    assert server.requests == []


def test_every_command_without_weights_says_how_to_get_them(home: Path, audiotag: Run) -> None:
    for action in ("path", "verify"):
        done = audiotag("weights", action)
        assert_said(done, "audiotag weights fetch vggish", "pip install 'audiotag[train]'")
        assert done.stdout == ""
    done = audiotag("weights", "list")
    assert_said(done, status=0)
    assert "vggish: VGGish as released with AudioSet" in done.stdout
    assert "not installed; get it with: audiotag weights fetch vggish" in done.stdout
    assert not home.exists()


def test_installed_weights_are_listed_verified_and_found(small_home: Path, audiotag: Run) -> None:
    done = audiotag("weights", "path")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{small_home / 'vggish'}\n", "")
    done = audiotag("weights", "verify")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"vggish: 3 files in {small_home / 'vggish'}, intact\n"
    assert audiotag("weights", "verify", "-q").stdout == ""
    done = audiotag("weights", "list")
    assert_said(done, status=0)
    assert "int8 against float32, after PCA: cosine 1.0000, mean change 0.00" in done.stdout
    assert "NOT the weights above" in done.stdout


@pytest.mark.parametrize("damage", ["flipped", "missing", "longer"])
@pytest.mark.parametrize("name", ["float32.onnx", "int8.onnx", "pca.npz"])
def test_verify_detects_damage_and_says_what_to_do(
    damage: str, name: str, small_home: Path, audiotag: Run
) -> None:
    path = small_home / "vggish" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= damage == "flipped"
    path.write_bytes(data + b"x" * (damage == "longer"))
    if damage == "missing":
        path.unlink()
    told = {"flipped": "has the sha256", "missing": "is missing", "longer": "has "}[damage]
    with pytest.raises(
        WeightsError, match=rf"are damaged: {path} {told}.*\n.*weights fetch vggish"
    ):
        find_installed(verify=True)
    if name == "pca.npz":  # one case through the command line
        assert_said(audiotag("weights", "verify"), f"{path} {told}")
        listed = audiotag("weights", "list")
        assert_said(listed, status=0)
        assert ("damaged: " in listed.stdout) == (damage != "flipped")


@pytest.mark.parametrize(
    "record",
    ["", "[]", "{}", "\x00", {"files": {}}, {"facts": {}}, {"files": {"pca": {"size": 1}}}],
)
def test_damaged_record_is_an_error_that_names_it(record: Any, small_home: Path) -> None:
    path = small_home / "vggish" / "installed.json"
    if isinstance(record, dict):
        record = json.dumps({**json.loads(path.read_text()), **record})
    path.write_text(record)
    with pytest.raises(WeightsError, match=rf"{path} is damaged(.|\n)*weights fetch vggish"):
        find_installed()


def test_unfinished_files_do_not_count_as_installed(home: Path) -> None:
    staging = home / "vggish" / "staging-x"
    staging.mkdir(parents=True)
    (staging / "installed.json").write_text("{}")
    (home / "vggish" / "float32-0123456789ab.onnx").write_bytes(b"half")
    with pytest.raises(WeightsNotInstalledError):
        find_installed()


def test_unknown_precision_is_refused(small_home: Path) -> None:
    with pytest.raises(OptionError, match=r"precision must be one of .* Received: 'pca'"):
        load_embedder(precision="pca")  # type: ignore[arg-type]


def test_own_manifest_has_the_official_files() -> None:
    known = find_known("vggish")
    assert known.files["checkpoint"].size == 291_108_469
    assert known.files["checkpoint"].sha256.startswith("0962b1914e3e053922d957c45bc84a78")
    assert known.files["pca"].sha256.startswith("4d878af3e306defbfb37095365aa7e5a")
    assert known.smoke_test is not None
    with pytest.raises(OptionError, match="unknown weights 'vgish'; known are: vggish"):
        find_known("vgish")


def test_invalid_manifest_is_refused_with_its_name(small_manifest: Path, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    with pytest.raises(WeightsError, match=r"other\.json is not a manifest"):
        known_weights(path)
    right = json.loads(small_manifest.read_text())["vggish"]
    file = right["files"]["checkpoint"]
    for entry in (
        {},
        {**right, "files": {"checkpoint": file}},
        {**right, "files": {**right["files"], "pca": {**file, "sha256": "123"}}},
        {**right, "files": {**right["files"], "pca": {**file, "colour": "red"}}},
        {**right, "files": []},
        {**right, "smoke_test": {"raw_mean": 1.0}},
        "vggish",
    ):
        path.write_text(json.dumps({"vggish": entry}))
        with pytest.raises(WeightsError, match=r"other\.json is not a manifest of weights: .*\w"):
            known_weights(path)
    for text in ("", "[]", "PK\x03\x04", "<html>"):
        path.write_text(text)
        with pytest.raises(WeightsError, match=r"other\.json is not a manifest of weights"):
            known_weights(path)


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], {"numpy", "onnxruntime", "tensorflow", "onnx", "httpx", "rich", "soundfile"}),
        (["weights", "--help"], {"numpy", "onnxruntime", "tensorflow", "onnx", "httpx"}),
        (["weights", "path"], {"onnxruntime", "tensorflow", "onnx", "httpx"}),
    ],
)
def test_light_commands_load_no_heavy_package(
    arguments: list[str], heavy: set[str], small_home: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "cli", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0
    loaded = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines()}
    assert "argparse" in loaded
    assert not loaded & heavy
