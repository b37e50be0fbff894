"""Run directories: atomic writes, validation on resume, checkpoints and names."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.labels import Labels
from classifier.training.config import TrainingConfig
from classifier.training.runs import (
    KEPT_CHECKPOINTS,
    Run,
    latest_run,
    new_run,
    read_arrays,
    write_arrays,
)
from vggish.errors import RunError

CONFIG = TrainingConfig(head="gru", epochs=3, settings={"units": 64})
DATA: dict[str, Any] = {"frames": ["a.tfrecord"], "n_clips": 12, "embedders": ["vggish"]}
LABELS = Labels(("Dog", "Baby cry, infant cry", "犬"), ("/m/0bt9lr", "", ""))
HELD = ["clip1", 'say "x", y', "", "naïve 日本語"]


@pytest.fixture
def begun(tmp_path: Path) -> Run:
    run = Run(tmp_path / "runs" / "gru-1")
    run.begin(CONFIG, DATA, LABELS, HELD)
    return run


def weights(seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {"classes/0": rng.normal(size=(4, 3)).astype("f"), "norm/1": np.zeros(3, "f")}


# --- Description of a run ----------------------------------------------------------------


def test_run_returns_its_config_data_and_labels(begun: Run) -> None:
    again = Run(begun.directory)
    assert again.config() == CONFIG
    assert again.labels() == LABELS
    assert again.held_out() == HELD
    assert again.described() == {"training": CONFIG.as_json(), "data": DATA}
    assert not again.is_finished
    assert again.metrics() == {}
    assert again.checkpoints() == []


def test_run_without_held_out_clips_has_an_empty_list(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.begin(CONFIG, DATA, LABELS, [])
    assert run.held_out() == []


def test_existing_run_is_not_overwritten(begun: Run) -> None:
    before = (begun.directory / "config.json").read_bytes()
    with pytest.raises(RunError, match=r"already contains a run; continue it with --resume"):
        begun.begin(dataclasses.replace(CONFIG, epochs=9), DATA, LABELS, [])
    assert (begun.directory / "config.json").read_bytes() == before


def test_run_starts_only_in_a_new_or_empty_directory(tmp_path: Path) -> None:
    (tmp_path / ".hidden").write_text("")
    Run(tmp_path).check_free()
    Run(tmp_path / "new" / "run").check_free()
    assert [path.name for path in tmp_path.iterdir()] == [".hidden"]
    (tmp_path / "a.tfrecord").write_text("")
    with pytest.raises(RunError, match=r"contains other files than a run \(a\.tfrecord\); choose"):
        Run(tmp_path).begin(CONFIG, DATA, LABELS, [])
    with pytest.raises(RunError, match=r"cannot write .*run: .*a\.tfrecord is not a directory"):
        Run(tmp_path / "a.tfrecord" / "run").check_free()
    (tmp_path / "folds" / "fold-1").mkdir(parents=True)
    with pytest.raises(RunError, match="already contains a run"):
        Run(tmp_path / "folds").check_free()


def test_interrupted_start_leaves_no_run_and_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patched:
        patched.setattr("classifier.training.runs.json.dumps", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run.begin(CONFIG, DATA, LABELS, HELD)
    with pytest.raises(RunError, match="is not a training run"):
        run.config()
    run.begin(CONFIG, DATA, LABELS, HELD)
    assert run.config() == CONFIG


def interrupt(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_run_with_metrics_is_finished(begun: Run) -> None:
    begun.write_metrics({"epoch": 3, "mAP": 0.25, "mAUC": None})
    assert begun.is_finished
    assert begun.metrics() == {"epoch": 3, "mAP": 0.25, "mAUC": None}
    (begun.directory / "metrics.json").write_text("{")
    with pytest.raises(RunError, match=r"metrics\.json is damaged"):
        begun.metrics()


def test_resuming_requires_the_same_config_and_data(begun: Run) -> None:
    begun.check_same(CONFIG, DATA)
    begun.check_same(CONFIG, {**DATA, "frames": ("a.tfrecord",)})  # JSON turns tuples into lists
    now = dataclasses.replace(CONFIG, epochs=4, settings={"units": 128})
    with pytest.raises(RunError) as caught:
        begun.check_same(now, {**DATA, "n_clips": 13, "labels": "own.csv"})
    message = str(caught.value)
    for line in (
        'data.labels: null -> "own.csv"',
        "data.n_clips: 12 -> 13",
        "training.epochs: 3 -> 4",
        "training.settings.units: 64 -> 128",
    ):
        assert f"\n  {line}\n" in message
    assert message.startswith(f"{begun.directory} was begun with other options or data")
    assert message.endswith("Give the same options, or begin a new run with -o")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"text"',
        "{}",
        '{"format": 1}',
        '{"format": 1, "training": {}}',
        '{"format": 1, "training": 5, "data": {}}',
        '{"format": 1, "training": {}, "data": [1]}',
        "\udcff",
    ],
)
def test_damaged_config_error_names_the_file(begun: Run, text: str) -> None:
    path = begun.directory / "config.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    for read in (begun.described, begun.config, lambda: begun.check_same(CONFIG, DATA)):
        with pytest.raises(RunError, match=r"config\.json is damaged"):
            read()


@pytest.mark.parametrize(
    ("field", "value"), [("epochs", "three"), ("epochs", -1), ("settings", 5), ("seed", None)]
)
def test_invalid_config_error_names_the_file(begun: Run, field: str, value: object) -> None:
    path = begun.directory / "config.json"
    described = json.loads(path.read_text())
    described["training"][field] = value
    path.write_text(json.dumps(described))
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        begun.config()


def test_config_of_another_version_is_rejected(begun: Run) -> None:
    path = begun.directory / "config.json"
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "format": 2}))
    with pytest.raises(RunError, match="has the format 2, not 1"):
        begun.described()
    described["training"]["lookahead"] = 5
    path.write_text(json.dumps(described))
    with pytest.raises(RunError, match="unknown fields of a configuration: lookahead"):
        begun.config()


def test_missing_run_error_suggests_the_command(tmp_path: Path) -> None:
    for directory in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunError, match=r"not a training run.*Make one with: audiotag train"):
            Run(directory).config()


def test_damaged_or_missing_labels_and_splits_are_reported(begun: Run) -> None:
    (begun.directory / "labels.csv").write_text("index,mid\n")
    with pytest.raises(RunError, match=r"the run .* is damaged: .*labels\.csv"):
        begun.labels()
    (begun.directory / "labels.csv").unlink()
    with pytest.raises(RunError, match=r"the run .* is damaged"):
        begun.labels()
    for damaged in (b"clip\n\xff\n", b'clip\n"' + b"x" * 200_000):
        (begun.directory / "split.csv").write_bytes(damaged)
        with pytest.raises(RunError, match=r"the run .* is damaged: .*split\.csv"):
            begun.held_out()
    (begun.directory / "split.csv").unlink()
    with pytest.raises(RunError, match=r"the run .* is damaged: .*split\.csv"):
        begun.held_out()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_unwritable_directory_is_reported(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(RunError, match="cannot write"):
        Run(tmp_path / "run").begin(CONFIG, DATA, LABELS, [])


def test_file_in_place_of_a_directory_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot write .*file"):
        Run(tmp_path / "file" / "run").begin(CONFIG, DATA, LABELS, [])


# --- Arrays ------------------------------------------------------------------------------


def test_arrays_and_metadata_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "new" / "w.npz"
    arrays = {**weights(), "step": np.array(7, np.int32), "none": np.zeros((0, 2))}
    meta = {"epoch": 3, "best": {"mAP": float("nan")}, "text": "犬", "list": [1, 2.5]}
    write_arrays(path, arrays, meta)
    read, facts = read_arrays(path)
    assert read.keys() == arrays.keys()
    for name, values in arrays.items():
        np.testing.assert_array_equal(read[name], values)
        assert read[name].dtype == values.dtype
    assert repr(facts) == repr(meta)


def test_interrupted_write_leaves_only_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "w.npz"

    def breaks(file: Any, **_: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("classifier.training.runs.np.savez", breaks)
        with pytest.raises(RunError, match=r"cannot write .*w\.npz: No space left on device"):
            write_arrays(path, weights(), {})
    assert os.listdir(tmp_path) == []
    write_arrays(path, weights(), {"epoch": 1})
    with monkeypatch.context() as patched:
        patched.setattr("classifier.training.runs.np.savez", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_arrays(path, weights(1), {"epoch": 2})
    assert os.listdir(tmp_path) == ["w.npz"]
    assert read_arrays(path)[1] == {"epoch": 1}


def test_missing_or_damaged_arrays_are_reported(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "state.npz"
    with pytest.raises(RunError, match=r"state\.npz does not exist.*before its first checkpoint"):
        read_arrays(path)
    write_arrays(path, weights(), {"epoch": 1})
    whole = path.read_bytes()
    for end in (0, 1, 30, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:end])
        with pytest.raises(RunError, match=r"state\.npz is damaged"):
            read_arrays(path)
    arrays, n_damaged = weights(), 0
    for position in rng.integers(0, len(whole), 60):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        with contextlib.suppress(RunError):
            n_damaged += 1
            read, facts = read_arrays(path)
            n_damaged -= 1  # an irrelevant byte, such as one of a timestamp
            assert facts == {"epoch": 1}
            for name, values in arrays.items():
                np.testing.assert_array_equal(read[name], values)
    assert n_damaged > 20
    np.savez(path, **arrays)  # without audiotag's metadata
    with pytest.raises(RunError, match="is damaged"):
        read_arrays(path)


def test_sample_round_trip(begun: Run, rng: np.random.Generator) -> None:
    frames, n_frames = rng.integers(0, 256, (2, 3, 128), np.uint8), np.array([3, 1], np.int32)
    begun.write_sample(frames, n_frames)
    read, _ = read_arrays(begun.sample)
    np.testing.assert_array_equal(read["frames"], frames)
    np.testing.assert_array_equal(read["n_frames"], n_frames)


# --- Checkpoints -------------------------------------------------------------------------


def test_latest_checkpoints_are_kept_oldest_first(begun: Run) -> None:
    write_arrays(begun.best, weights(), {"epoch": 1})
    write_arrays(begun.state, weights(), {})
    for epoch in (1, 2, 3, 4, 5):
        begun.add_checkpoint(epoch, weights(epoch))
        kept = range(max(1, epoch + 1 - KEPT_CHECKPOINTS), epoch + 1)
        assert [path.name for path in begun.checkpoints()] == [f"epoch-{e:04}.npz" for e in kept]
    read, facts = read_arrays(begun.checkpoints()[-1])
    assert facts == {"epoch": 5}
    np.testing.assert_array_equal(read["classes/0"], weights(5)["classes/0"])
    assert begun.best.exists()
    assert begun.state.exists()


def test_checkpoints_are_sorted_numerically(begun: Run) -> None:
    for epoch in (9_999, 10_000, 10_001, 10_002):
        begun.add_checkpoint(epoch, weights())
    assert [path.name for path in begun.checkpoints()] == [
        f"epoch-{epoch}.npz" for epoch in (10_000, 10_001, 10_002)
    ]


def test_other_files_in_the_checkpoint_directory_are_kept(begun: Run) -> None:
    for name in ("epoch-best.npz", "epoch-0001.npz.bak", "epoch-1.npz"):
        (begun.state.parent / name).write_text("mine")
    for epoch in range(1, 6):
        begun.add_checkpoint(epoch, weights())
    assert len(begun.checkpoints()) == KEPT_CHECKPOINTS
    assert (begun.state.parent / "epoch-best.npz").read_text() == "mine"


# --- Run names ---------------------------------------------------------------------------


def test_runs_are_numbered_by_head(tmp_path: Path) -> None:
    assert new_run("gru", tmp_path).directory == tmp_path / "gru-1"
    assert new_run("gru", tmp_path / "absent").directory == tmp_path / "absent" / "gru-1"
    for name in ("gru-1", "gru-2", "gru-10", "lstm-3", "lstm-moe-7", "gru-notes", "gru-"):
        (tmp_path / name).mkdir()
    assert new_run("gru", tmp_path).directory.name == "gru-11"
    assert new_run("lstm", tmp_path).directory.name == "lstm-4"
    assert new_run("lstm-moe", tmp_path).directory.name == "lstm-moe-8"
    assert new_run("moe", tmp_path).directory.name == "moe-1"


def test_latest_run_has_the_highest_number(tmp_path: Path) -> None:
    for name in ("gru-1", "gru-2", "gru-10", "lstm-3", "lstm-moe-7"):
        (tmp_path / name).mkdir()
    assert latest_run("gru", tmp_path).directory.name == "gru-10"
    assert latest_run("lstm", tmp_path).directory.name == "lstm-3"
    with pytest.raises(RunError, match=r"no run of moe in .* to resume; choose one with -o"):
        latest_run("moe", tmp_path)
    with pytest.raises(RunError, match="there is no run of gru"):
        latest_run("gru", tmp_path / "absent")
