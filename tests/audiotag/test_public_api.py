"""audiotag as a library: classify, embed, train, evaluate and the types they return."""

from __future__ import annotations

import concurrent.futures
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audiotag
from classifier.tagger import Tagger
from tests.support.bundles import NAMES, make_bundle
from tests.support.frames import write_labelled_frames
from tests.support.paths import ROOT
from vggish.errors import OptionError, RunError


@pytest.fixture
def clip(small_home: Path, in_directory: Path, write_sound: Any) -> Path:
    """A clip of 3 s, with the bundle tiny in the working directory."""
    make_bundle(in_directory / "tiny")
    path: Path = write_sound("cwd/clip.wav", seconds=3.0)
    return path


def test_classify_takes_paths_files_bytes_and_waveforms(clip: Path) -> None:
    expected = audiotag.Tagger.load("tiny").tag(clip)
    assert isinstance(expected, audiotag.Tags)
    assert len(expected.tags) == min(10, len(NAMES))
    assert audiotag.classify(clip, model="tiny").tags == expected.tags
    assert audiotag.classify(str(clip), model=Path("tiny")).tags == expected.tags
    assert audiotag.classify(clip.read_bytes(), model="tiny").tags == expected.tags
    with open(clip, "rb") as file:
        assert audiotag.classify(file, model="tiny").tags == expected.tags
    from vggish import load_audio

    waveform = load_audio(clip)
    tags = audiotag.classify(waveform, model="tiny", sample_rate=16_000).tags
    assert [tag.label for tag in tags] == [tag.label for tag in expected.tags]
    with pytest.raises(OptionError, match="sample_rate"):
        audiotag.classify(clip, model="tiny", sample_rate=16_000)


def test_classify_selects_tags(clip: Path) -> None:
    (best,) = audiotag.classify(clip, model="tiny", top_k=1).tags
    assert isinstance(best, audiotag.Tag)
    labels = [t.label for t in audiotag.classify(clip, model="tiny", labels=["bark", "rain"]).tags]
    assert set(labels) == {"Bark", "Rain"}
    left = audiotag.classify(clip, model="tiny", exclude_labels=["Bark"], top_k=None).tags
    assert len(left) == len(NAMES) - 1
    assert audiotag.classify(clip, model="tiny", threshold=1.0).tags == ()


def test_classify_loads_a_model_once_for_all_threads(
    clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    load = Tagger.load

    def counted(*arguments: Any, **options: Any) -> Tagger:
        loaded.append(arguments)
        return load(*arguments, **options)

    monkeypatch.setattr(Tagger, "load", counted)
    model = str(Path("tiny").resolve())  # no other test has loaded this path
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda _: audiotag.classify(clip, model=model).tags, range(8)))
    assert len(loaded) == 1
    assert len(set(results)) == 1


def test_frames_are_written_and_read(clip: Path) -> None:
    frames = audiotag.embed(clip)
    assert isinstance(frames, audiotag.ClipFrames)
    audiotag.write_frames("clip.npz", frames)
    (read,) = audiotag.read_frames("clip.npz")
    np.testing.assert_array_equal(read.frames, frames.frames)


@pytest.fixture
def data(in_directory: Path) -> Path:
    """The working directory, with data/a.tfrecord, eval.tfrecord and classes.csv."""
    write_labelled_frames(Path("data/a.tfrecord"), 60)
    write_labelled_frames(Path("eval.tfrecord"), 40, seed=1)
    Path("classes.csv").write_text("index,display_name\n0,dog\n1,cat\n2,rain\n3,wind\n")
    return in_directory


def test_a_head_is_trained_and_evaluated(data: Path) -> None:
    messages: list[str] = []
    config = audiotag.TrainingConfig(head="logistic", learning_rate=1, epochs=2)
    fitted = audiotag.train(
        frames="data", labels="classes.csv", config=config, out="runs/x", log=messages.append
    )
    assert isinstance(fitted, audiotag.Fitted)
    assert fitted.is_finished
    assert fitted.bundle is not None
    assert fitted.bundle.labels.names == ("dog", "cat", "rain", "wind")
    assert messages[0] == "60 clips, 4 classes; logistic -> runs/x"
    found = audiotag.evaluate(fitted.bundle, Path("eval.tfrecord"))
    assert isinstance(found, audiotag.Evaluation)
    assert found.scores.shape == (40, 4)
    assert found.metrics["mAP"] > 0.5
    assert audiotag.evaluate("runs/x", ["eval.tfrecord"]).metrics == found.metrics
    # Classes and head default to those of the bundle.
    tuned = audiotag.train(frames=[data / "data"], init_from=fitted.bundle, out=Path("runs/y"))
    assert tuned.bundle is not None
    assert tuned.bundle.card["head"]["name"] == "logistic"
    assert tuned.bundle.labels.names == fitted.bundle.labels.names
    with pytest.raises(RunError, match="runs/x already contains a run"):
        audiotag.train(frames="data", labels="classes.csv", config=config, out="runs/x")


def test_stopped_training_is_resumed(data: Path) -> None:
    config = audiotag.TrainingConfig(head="logistic", learning_rate=1, epochs=2)
    how: dict[str, Any] = {"frames": "data", "labels": "classes.csv", "config": config}
    stopped = audiotag.train(**how, out="runs/x", should_stop=lambda: True)
    assert (stopped.is_finished, stopped.bundle) == (False, None)
    assert audiotag.train(**how, out="runs/x", resume=True).is_finished


def test_invalid_training_data_is_an_option_error(data: Path) -> None:
    with pytest.raises(OptionError, match="neither is given"):
        audiotag.train(labels="classes.csv")
    with pytest.raises(OptionError, match="not on both"):
        audiotag.train(frames="data", audio="clips")
    with pytest.raises(OptionError, match="folds must be 2 or more"):
        audiotag.train(frames="data", folds=1)
    with pytest.raises(audiotag.AudiotagError, match="nowhere"):
        audiotag.evaluate("nowhere", "eval.tfrecord")


def test_python_m_audiotag_is_the_command_line() -> None:
    def run(module: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", module, "--help"]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)

    assert run("audiotag").stdout == run("cli").stdout
    assert run("audiotag").stdout.startswith("usage: audiotag ")
