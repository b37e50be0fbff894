"""Fit a bundle to labelled clips: validation split, resuming, fine-tuning, ensembles."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import classifier.fit
from classifier import Bundle, Clip, ClipStore, Labels, load
from classifier.fit import FitOptions, Fitted, LabelledClips, cross_validate, fit
from classifier.heads.backend import tf
from classifier.reports.curves import read_curves
from classifier.training.config import TrainingConfig
from classifier.training.examples import FrameExamples
from classifier.training.runs import Result, Run
from classifier.training_setup import start_config
from tests.support.training import (
    LABELS,
    assert_same_arrays,
    made_clips,
    place_of,
    small_config,
    stop_after,
)
from vggish.errors import FrameFileError, OptionError, RunError, TrainingError

CONFIG = small_config()
# Fast: one step per epoch.
QUICK = small_config(batch_size=500)


@pytest.fixture(autouse=True)
def _no_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip plotting the curves, which takes longer than an epoch here."""
    monkeypatch.setattr("classifier.training.observers.plot_curves", lambda rows, path: None)


def labelled(clips: list[Clip], labels: Labels = LABELS, **options: Any) -> LabelledClips:
    return LabelledClips(ClipStore.from_clips(clips), labels, ["made"], **options)


def with_labels(clip: Clip, labels: tuple[int, ...] | None) -> Clip:
    return dataclasses.replace(clip, labels=labels)


@pytest.fixture(scope="module")
def data() -> LabelledClips:
    unlabelled = with_labels(made_clips(1, seed=9)[0], None)
    return labelled([*made_clips(), unlabelled])


@pytest.fixture(scope="module")
def finished(data: LabelledClips, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Fitted]:
    """Return a finished run and its result; shared, do not modify."""
    run = Run(tmp_path_factory.mktemp("finished") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classifier.training.observers.plot_curves", lambda rows, path: None)
        return run, fit(CONFIG, data, None, run, FitOptions(licence="CC0"))


@pytest.fixture
def without_training(
    monkeypatch: pytest.MonkeyPatch,
) -> list[tuple[FrameExamples, FrameExamples | None]]:
    """Record the training and validation examples instead of training."""
    noted: list[tuple[FrameExamples, FrameExamples | None]] = []

    class Noted:
        def __init__(
            self,
            config: TrainingConfig,
            training: FrameExamples,
            held: FrameExamples | None,
            *_: Any,
            **__: Any,
        ) -> None:
            noted.append((training, held))

        def run(self, *_: Any) -> Result:
            return Result(0, 0, True, {})

    monkeypatch.setattr(classifier.fit, "Training", Noted)
    return noted


def ids_of(clips: FrameExamples | None) -> list[str]:
    assert clips is not None
    return [clips.store.ids[index] for index in clips.indices]


def scores_of(bundle: Bundle | None, data: LabelledClips) -> Any:
    assert bundle is not None
    return bundle.scores(*data.store.gather(np.arange(len(data.store))))


def uncalibrated(bundle: Bundle) -> Bundle:
    card = {key: value for key, value in bundle.card.items() if key != "calibration"}
    head = (bundle.directory / "head.onnx").read_bytes()
    return Bundle(bundle.directory, card, bundle.labels, head)


# --- A complete run ----------------------------------------------------------------------


def test_finished_run_exports_a_working_bundle(data: LabelledClips, finished: Any) -> None:
    run, fitted = finished
    assert fitted.is_finished
    assert fitted.results[0].metrics["mAP"] > 0.9
    truth = data.store.label_matrix(data.labelled, len(LABELS))
    scores = scores_of(load(run.directory), data)[data.labelled]
    assert np.mean(scores.argmax(1) == truth.argmax(1)) > 0.9
    assert fitted.bundle.labels == LABELS
    card = fitted.bundle.card
    assert (card["name"], card["licence"], card["embedders"]) == ("run", "CC0", ["vggish"])
    (training,) = card["training"]
    assert TrainingConfig.from_json(training["configuration"]) == CONFIG
    assert training["data"]["n_clips"] == 160
    assert card["metrics"]["validation"][0]["mAP"] == fitted.results[0].metrics["mAP"]


def test_validation_share_is_held_out_and_its_ids_are_saved(
    tmp_path: Path, data: LabelledClips, without_training: list[Any]
) -> None:
    run = Run(tmp_path / "run")
    fitted = fit(CONFIG, data, None, run, FitOptions(validation_share=0.25))
    ((training, held),) = without_training
    assert run.held_out() == ids_of(held)
    assert len(held) == 40
    labelled_ids = [data.store.ids[index] for index in data.labelled]
    assert sorted(ids_of(training) + ids_of(held)) == sorted(labelled_ids)
    assert len(labelled_ids) == len(data.store) - 1
    assert run.described()["data"]["validation"] == {"share": 0.25, "n_clips": 40}
    assert run.labels() == LABELS
    assert fitted.bundle is None


def test_separate_validation_data_leaves_all_clips_for_training(
    tmp_path: Path, data: LabelledClips, without_training: list[Any]
) -> None:
    validation = labelled(made_clips(8, seed=3))
    run = Run(tmp_path / "run")
    fit(CONFIG, data, validation, run, FitOptions())
    ((training, held),) = without_training
    assert len(training) == 160
    assert ids_of(held) == run.held_out() == validation.store.ids
    assert run.described()["data"]["validation"] == validation.facts()


def test_validation_data_without_labels_is_rejected(tmp_path: Path, data: LabelledClips) -> None:
    unlabelled = labelled([with_labels(clip, None) for clip in made_clips(3)])
    with pytest.raises(TrainingError, match="no validation clip has a label"):
        fit(QUICK, data, unlabelled, Run(tmp_path / "run"), FitOptions())


def test_last_epoch_is_kept_without_validation(tmp_path: Path, data: LabelledClips) -> None:
    run = Run(tmp_path / "run")
    fitted = fit(QUICK, data, None, run, FitOptions(validation_share=0))
    assert (fitted.results[0].best_epoch, run.held_out()) == (2, [])
    assert fitted.bundle is not None
    assert run.metrics() == {"epoch": 2}


def test_label_out_of_range_is_rejected(tmp_path: Path) -> None:
    clips = made_clips(40)
    few = labelled(clips, Labels(LABELS.names[:2], LABELS.mids[:2]))
    with pytest.raises(FrameFileError, match="there are 2 classes"):
        fit(QUICK, few, None, Run(tmp_path / "run"), FitOptions())


def test_embedder_is_recorded(tmp_path: Path, without_training: list[Any]) -> None:
    clips = [dataclasses.replace(clip, embedder="mini") for clip in made_clips(40)]
    run = Run(tmp_path / "run")
    fit(CONFIG, labelled(clips), None, run, FitOptions())
    assert run.described()["data"]["embedders"] == ["mini"]


# --- Resuming ----------------------------------------------------------------------------


def test_existing_run_is_not_overwritten(data: LabelledClips, finished: Any) -> None:
    with pytest.raises(RunError, match="already contains a run; continue it with --resume"):
        fit(CONFIG, data, None, finished[0], FitOptions())


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"epochs": 3}, "epochs: 2 -> 3"),
        ({"learning_rate": 0.1, "seed": 4}, "learning_rate: 0.05 -> 0.1\n  seed: 0 -> 4"),
        ({"settings": {"l2": 0.5}}, "settings.l2: 1e-08 -> 0.5"),
    ],
)
def test_resuming_with_changed_config_reports_the_difference(
    data: LabelledClips, finished: Any, change: dict[str, Any], difference: str
) -> None:
    with pytest.raises(RunError, match="begun with other options or data") as caught:
        fit(small_config(**change), data, None, finished[0], FitOptions(resume=True))
    assert difference in str(caught.value).replace("training.", "")


def test_resuming_with_changed_data_reports_the_difference(finished: Any) -> None:
    with pytest.raises(RunError, match=r"n_clips: 160 -> 120"):
        fit(CONFIG, labelled(made_clips(120)), None, finished[0], FitOptions(resume=True))
    how = FitOptions(resume=True, validation_share=0.2)
    with pytest.raises(RunError, match=r"validation\.share: 0\.1 -> 0\.2"):
        fit(CONFIG, labelled(made_clips()), None, finished[0], how)


def test_resuming_without_a_run_is_rejected(tmp_path: Path, data: LabelledClips) -> None:
    with pytest.raises(RunError, match="is not a training run"):
        fit(CONFIG, data, None, Run(tmp_path / "none"), FitOptions(resume=True))


def test_resuming_a_finished_run_does_nothing(
    data: LabelledClips, finished: Any, without_training: list[Any]
) -> None:
    run, fitted = finished
    told: list[str] = []
    again = fit(CONFIG, data, None, run, FitOptions(resume=True, log=told.append))
    assert told == [f"{run.directory} is finished; there is nothing to resume"]
    assert not without_training
    assert again.bundle is not None
    assert again.bundle.sha256 == fitted.bundle.sha256
    (before,), (after,) = fitted.results, again.results
    assert (after.best_epoch, after.n_epochs) == (before.best_epoch, before.n_epochs)
    assert after.metrics["mAP"] == before.metrics["mAP"]


def test_resumed_run_gives_the_same_bundle(
    tmp_path: Path, data: LabelledClips, finished: Any
) -> None:
    run, fitted = finished
    stopped_run = Run(tmp_path / "run")
    stopped = fit(CONFIG, data, None, stopped_run, FitOptions(should_stop=stop_after(4)))
    assert (stopped.bundle, stopped.is_finished) == (None, False)
    later = FitOptions(resume=True, should_stop=stop_after(7))
    stopped = fit(CONFIG, data, None, stopped_run, later)
    assert stopped.results[0].n_epochs == 1
    assert stopped.bundle is not None  # of the best epoch so far
    resumed = fit(CONFIG, data, None, stopped_run, FitOptions(resume=True))
    assert resumed.is_finished
    assert_same_arrays(run.state, stopped_run.state)
    assert np.array_equal(scores_of(resumed.bundle, data), scores_of(fitted.bundle, data))


def test_run_killed_before_export_is_exported_on_resume(
    tmp_path: Path, data: LabelledClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> Bundle:
        raise KeyboardInterrupt

    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(classifier.fit, "export", die)
        with pytest.raises(KeyboardInterrupt):
            fit(QUICK, data, None, run, FitOptions())
    assert run.is_finished
    run.sample.unlink()
    resumed = fit(QUICK, data, None, run, FitOptions(resume=True))
    assert resumed.bundle is not None
    assert resumed.results[0].n_epochs == 2


# --- Fine-tuning -------------------------------------------------------------------------


def first_score(run: Run) -> float:
    return read_curves(run.curves)[0]["mAP"]


def fine_tuned(
    directory: Path, data: LabelledClips, initial: Bundle | None
) -> tuple[float, list[str]]:
    """Return the mAP after one epoch at a low learning rate, and the log lines."""
    told: list[str] = []
    config = small_config(epochs=1, learning_rate=1e-4)
    run = Run(directory)
    fit(config, data, None, run, FitOptions(initial=initial, validation_share=0.3, log=told.append))
    return first_score(run), told


def test_fine_tuning_starts_from_the_bundle_weights(
    tmp_path: Path, finished: Any, data: LabelledClips
) -> None:
    bundle = finished[1].bundle
    more = labelled(made_clips(80, seed=5))
    scratch, told = fine_tuned(tmp_path / "scratch", more, None)
    assert told == []
    tuned, told = fine_tuned(tmp_path / "tuned", more, bundle)
    assert told == ["starting from run, which knows 4 of the 4 classes"]
    assert tuned > 0.9 > scratch + 0.2
    facts = Run(tmp_path / "tuned").described()["data"]
    assert facts["initial"] == {"name": "run", "sha256": bundle.sha256}


def test_fine_tuning_on_other_classes_keeps_the_shared_ones(tmp_path: Path, finished: Any) -> None:
    # dog matches by id only, cat is dropped, and frog is new.
    others = Labels(("bee", "hound", "frog", "owl"), ("", "/m/dog", "/m/frog", ""))
    clips = made_clips(80, seed=5, labels=others)
    dog, hound = place_of("dog"), place_of("hound")
    clips = [
        dataclasses.replace(clip, frames=(clip.frames + (dog - hound)).clip(0, 255).astype("u1"))
        if clip.labels == (1,)
        else clip
        for clip in clips
    ]
    data = labelled(clips, others)
    scratch, _ = fine_tuned(tmp_path / "scratch", data, None)
    tuned, told = fine_tuned(tmp_path / "tuned", data, finished[1].bundle)
    assert told == ["starting from run, which knows 3 of the 4 classes"]
    assert tuned > scratch + 0.2


def test_fine_tuning_can_be_resumed(tmp_path: Path, data: LabelledClips, finished: Any) -> None:
    bundle = finished[1].bundle
    whole, stopped = Run(tmp_path / "whole"), Run(tmp_path / "stopped")
    fit(CONFIG, data, None, whole, FitOptions(initial=bundle))
    fit(CONFIG, data, None, stopped, FitOptions(initial=bundle, should_stop=stop_after(5)))
    with pytest.raises(RunError, match=r"initial"):
        fit(CONFIG, data, None, stopped, FitOptions(resume=True))
    fit(CONFIG, data, None, stopped, FitOptions(initial=bundle, resume=True))
    assert_same_arrays(whole.state, stopped.state)


def test_fine_tuning_uses_the_head_of_the_bundle(finished: Any) -> None:
    bundle = finished[1].bundle
    asked = TrainingConfig(epochs=7)
    config = start_config(asked, bundle, head_is_given=False)
    assert (config.head, config.settings, config.epochs) == ("logistic", CONFIG.settings, 7)
    assert start_config(CONFIG, bundle, head_is_given=True) == CONFIG
    with pytest.raises(OptionError, match=r"another head than .* has \(logistic\)"):
        start_config(asked, bundle, head_is_given=True)


def test_fine_tuning_an_ensemble_is_rejected_before_the_run_starts(
    tmp_path: Path, data: LabelledClips, finished: Any, cross_validated: Any
) -> None:
    ensemble = cross_validated[1].bundle
    with pytest.raises(OptionError, match="is an ensemble; fine-tune one of its members"):
        start_config(CONFIG, ensemble, head_is_given=False)
    with pytest.raises(RunError, match="cannot be fine-tuned"):
        fit(CONFIG, data, None, Run(tmp_path / "run"), FitOptions(initial=ensemble))
    assert not (tmp_path / "run").exists()


# --- Cross-validation --------------------------------------------------------------------


def cross_validated_at(directory: Path, data: LabelledClips, **options: Any) -> Fitted:
    return cross_validate(CONFIG, data, 3, Run(directory), FitOptions(**options))


def folds_of(directory: Path, n: int = 3) -> list[Run]:
    return [Run(directory / f"fold-{number}") for number in range(1, n + 1)]


@pytest.fixture(scope="module")
def cross_validated(
    data: LabelledClips, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Fitted, list[str]]:
    directory = tmp_path_factory.mktemp("folds") / "run"
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classifier.training.observers.plot_curves", lambda rows, path: None)
        return directory, cross_validated_at(directory, data, log=told.append), told


def test_each_clip_is_held_out_by_one_fold(data: LabelledClips, cross_validated: Any) -> None:
    directory, fitted, told = cross_validated
    held = [clip for run in folds_of(directory) for clip in run.held_out()]
    assert sorted(held) == sorted(data.store.ids[index] for index in data.labelled)
    assert told == [f"fold {number} of 3" for number in (1, 2, 3)]
    assert len(fitted.results) == 3
    assert all(result.metrics["mAP"] > 0.9 for result in fitted.results)


def test_ensemble_scores_are_the_mean_over_folds(data: LabelledClips, cross_validated: Any) -> None:
    directory, fitted, _ = cross_validated
    bundles = [uncalibrated(load(run.bundle)) for run in folds_of(directory)]
    members = [scores_of(bundle, data) for bundle in bundles]
    assert np.abs(members[0] - members[1]).max() > 0.01
    mean = scores_of(uncalibrated(fitted.bundle), data)
    np.testing.assert_allclose(mean, np.mean(members, 0), atol=1e-6)
    assert scores_of(load(directory), data).shape == (161, 4)
    assert fitted.bundle.card["head"]["name"] == "ensemble"
    assert len(fitted.bundle.card["training"]) == 3
    # Calibrated on the held-out clips of all folds.
    assert fitted.bundle.card["metrics"]["calibration"]["vggish"]["n_clips"] == 160


def test_cross_validation_stopped_within_a_fold_can_be_resumed(
    tmp_path: Path, data: LabelledClips, cross_validated: Any
) -> None:
    expected, fitted, _ = cross_validated
    steps_of_fold = 2 * 6
    stopped = cross_validated_at(tmp_path, data, should_stop=stop_after(steps_of_fold + 8))
    assert (len(stopped.results), stopped.bundle, stopped.is_finished) == (2, None, False)
    assert stopped.results[1].n_epochs == 1
    told: list[str] = []
    resumed = cross_validated_at(tmp_path, data, resume=True, log=told.append)
    assert f"{tmp_path / 'fold-1'} is finished; there is nothing to resume" in told
    assert np.array_equal(scores_of(resumed.bundle, data), scores_of(fitted.bundle, data))
    for run, other in zip(folds_of(tmp_path), folds_of(expected), strict=True):
        assert_same_arrays(run.state, other.state)


def test_predefined_folds_are_used(
    tmp_path: Path, without_training: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [with_labels(made_clips(1, seed=9)[0], None), *made_clips(40)]
    data = labelled(clips, fold_of_clip=[7, *([7] * 15), *([1] * 20), *([3] * 5)])
    monkeypatch.setattr(classifier.fit, "export", lambda *_, **__: None)
    cross_validate(CONFIG, data, 3, Run(tmp_path), FitOptions())
    ids = data.store.ids
    expected = [ids[16:36], ids[36:], ids[1:16]]
    assert [run.held_out() for run in folds_of(tmp_path)] == expected
    for (training, _), held in zip(without_training, expected, strict=True):
        assert sorted(ids_of(training)) == sorted(set(ids[1:]) - set(held))


def test_n_folds_must_match_the_predefined_folds(tmp_path: Path) -> None:
    data = labelled(made_clips(40), fold_of_clip=[number // 10 for number in range(40)])
    with pytest.raises(OptionError, match="the data names 4 folds; --folds says 5"):
        cross_validate(CONFIG, data, 5, Run(tmp_path), FitOptions())


def test_out_of_memory_leaves_no_run(
    tmp_path: Path, data: LabelledClips, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    monkeypatch.setattr("classifier.training.loop.build_head", full)
    with pytest.raises(
        TrainingError, match=r"the head logistic \(l2=.* does not fit into memory; "
    ):
        fit(CONFIG, data, None, Run(tmp_path / "run"), FitOptions())
    assert not (tmp_path / "run").exists()


def test_resuming_with_another_n_folds_reports_the_difference(
    data: LabelledClips, cross_validated: Any
) -> None:
    with pytest.raises(RunError, match=r"1/3.* -> .*1/4"):
        cross_validate(CONFIG, data, 4, Run(cross_validated[0]), FitOptions(resume=True))
