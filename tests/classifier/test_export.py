"""Export: the exported head equals the trained Keras head in every format."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier import Bundle, ClipStore, Labels, load
from classifier.bundles.bundle import read_weights
from classifier.bundles.calibration import Calibration, fit_calibration
from classifier.bundles.files import Weights
from classifier.export import ExportOptions, export
from classifier.heads.backend import keras, tf
from classifier.heads.build import build_head
from classifier.training.config import TrainingConfig
from classifier.training.network import Network
from classifier.training.runs import Run, read_arrays, write_arrays
from classifier.training.transfer import set_weights, weights_of
from tests.support.paths import ROOT
from tests.support.training import DATA_FACTS, LABELS, begun_run, made_clips, small_config
from vggish.errors import BundleError, ConversionError, OptionError, RunError

N_CLASSES = len(LABELS)
# Large enough for float16 export, and with batch normalisation.
HEAD = {"head": "feature-attention", "settings": {"units": 64, "layers": 1}}
MEASURED = {
    "mAP": 0.5,
    "mAUC": 0.75,
    "d_prime": None,
    "lwlrap": 0.6,
    "GAP": 0.4,
    "Hit@1": 0.3,
    "PERR": 0.2,
    "n_clips": 12,
}
STORE = ClipStore.from_clips(made_clips(24, longest=6))
SAMPLE = STORE.gather(np.arange(len(STORE)))


def made_run(directory: Path, config: TrainingConfig, labels: Labels = LABELS) -> Run:
    """Create a finished run with random weights, including biases and moving statistics."""
    run = begun_run(directory, config, labels)
    keras.utils.set_random_seed(config.seed)
    weights = weights_of(build_head(config.head, config.head_settings, len(labels)))
    rng = np.random.default_rng(config.seed)
    for name, values in weights.items():
        if values.ndim == 1:
            low = 0.5 if "norm" in name else -0.5
            weights[name] = rng.uniform(low, low + 1, values.shape).astype(np.float32)
    write_arrays(run.best, weights, {"epoch": 3, "metrics": {"mAP": 0.5}})
    run.write_sample(*SAMPLE)
    run.write_metrics({"epoch": 3, **MEASURED})
    return run


def keras_scores(config: TrainingConfig, weights: Weights) -> Any:
    network = Network([config], N_CLASSES)
    set_weights(network.model, weights)
    return network.scores(*SAMPLE)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return made_run(tmp_path_factory.mktemp("run") / "run", small_config(**HEAD))


@pytest.fixture(scope="module")
def bundle(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Export a bundle with all optional files; shared, do not modify."""
    directory = tmp_path_factory.mktemp("bundle") / "owls"
    metrics = {**MEASURED, "mAP": 0.25}
    return export(
        [run],
        directory,
        ExportOptions(licence="CC BY 4.0", notes="made", metrics=metrics, saved_model=True),
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Create a run of a small head without frame scores."""
    config = small_config(head="moe", seed=1)
    return made_run(tmp_path_factory.mktemp("plain") / "run", config)


# --- Scores ------------------------------------------------------------------------------


def test_bundle_scores_equal_keras(run: Run, bundle: Bundle) -> None:
    expected = keras_scores(run.config(), read_arrays(run.best)[0])
    assert expected.std() > 0.05
    np.testing.assert_allclose(bundle.scores(*SAMPLE), expected, atol=1e-5)
    longer = np.concatenate([SAMPLE[0], np.full_like(SAMPLE[0], 77)], axis=1)
    np.testing.assert_allclose(bundle.scores(longer, SAMPLE[1]), expected, atol=1e-5)
    np.testing.assert_allclose(bundle.scores(SAMPLE[0][:1], SAMPLE[1][:1]), expected[:1], atol=1e-5)


def test_bundle_scores_equal_keras_on_real_frames(
    run: Run, bundle: Bundle, shared_data: Path
) -> None:
    from classifier import load_clips
    from classifier.frame_data.finding import find_frame_files

    files = find_frame_files([str(shared_data / "audioset" / "bal_train")])[:3]
    store = load_clips(files)
    frames, n_frames = store.gather(np.arange(len(store)))
    network = Network([run.config()], N_CLASSES)
    set_weights(network.model, read_arrays(run.best)[0])
    expected = network.scores(frames, n_frames)
    np.testing.assert_allclose(bundle.scores(frames, n_frames), expected, atol=1e-5)


def test_batch_norm_statistics_are_exported(run: Run, bundle: Bundle) -> None:
    weights, _ = read_arrays(run.best)
    statistics = [name for name in weights if "norm" in name and name[-1] in "23"]
    assert len(statistics) == 6
    for name in statistics:
        reset = {**weights, name: np.full_like(weights[name], float(name[-1] == "3"))}
        difference = np.abs(keras_scores(run.config(), reset) - bundle.scores(*SAMPLE))
        assert difference.max() > 0.001, name


def test_frame_scores_are_exported(bundle: Bundle) -> None:
    scores, frame_scores = bundle.clip_and_frame_scores(*SAMPLE)
    assert frame_scores is not None
    assert frame_scores.shape == (*SAMPLE[0].shape[:2], N_CLASSES)
    short = np.flatnonzero(SAMPLE[1] == 1)
    np.testing.assert_allclose(frame_scores[short, 0], scores[short], atol=1e-5)


def test_softmax_scores_sum_to_one(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", small_config(loss="softmax"))
    bundle = export([run], tmp_path / "bundle")
    np.testing.assert_allclose(bundle.scores(*SAMPLE).sum(1), 1, atol=1e-5)
    assert bundle.card["activation"] == "softmax"


def test_ensemble_averages_the_scores_of_its_runs(
    tmp_path: Path, run: Run, plain: Run, bundle: Bundle
) -> None:
    other = export([plain], tmp_path / "other")
    ensemble = export([run, plain], tmp_path / "ensemble")
    expected = (bundle.scores(*SAMPLE) + other.scores(*SAMPLE)) / 2
    np.testing.assert_allclose(ensemble.scores(*SAMPLE), expected, atol=1e-5)
    # One member has no frame scores, so the ensemble has none.
    assert not ensemble.has_frame_scores
    members = ensemble.card["head"]["members"]
    assert [member["name"] for member in members] == ["feature-attention", "moe"]
    n_parameters = [made.card["head"]["n_parameters"] for made in (bundle, other, ensemble)]
    assert n_parameters[2] == sum(n_parameters[:2])
    with pytest.raises(RunError, match="ensembles have none"):
        read_weights(ensemble)


# --- Float16 -----------------------------------------------------------------------------


def test_float16_export_equals_the_rounded_head_at_half_the_size(
    tmp_path: Path, run: Run, bundle: Bundle
) -> None:
    halved = export([run], tmp_path / "half", ExportOptions(half=True))
    weights, _ = read_arrays(run.best)
    rounded = {
        name: values.astype(np.float16).astype(np.float32) if values.size >= 4096 else values
        for name, values in weights.items()
    }
    expected = keras_scores(run.config(), rounded)
    np.testing.assert_allclose(halved.scores(*SAMPLE), expected, atol=1e-6)
    assert np.abs(expected - bundle.scores(*SAMPLE)).max() > 1e-6
    n_large = sum(values.size for values in weights.values() if values.size >= 4096)
    sizes = [made.card["files"]["head.onnx"]["bytes"] for made in (bundle, halved)]
    assert sizes[0] - sizes[1] == pytest.approx(2 * n_large, rel=0.05)
    sizes = [made.card["files"]["weights.npz"]["bytes"] for made in (bundle, halved)]
    assert sizes[1] < 0.6 * sizes[0]
    for name, values in read_weights(halved).items():
        np.testing.assert_array_equal(values, rounded[name], strict=True)


def test_float16_export_keeps_small_weights_that_onnx_merges(tmp_path: Path) -> None:
    """Keras stores recurrent biases as two small vectors; ONNX merges them into a large one."""
    settings = {"units": 512, "dense": 0, "bidirectional": False, "pooling": "last"}
    run = made_run(tmp_path / "run", small_config(head="lstm", settings=settings))
    halved = export([run], tmp_path / "half", ExportOptions(half=True))
    expected = keras_scores(run.config(), read_weights(halved))
    np.testing.assert_allclose(halved.scores(*SAMPLE), expected, atol=2e-6)


# --- Bundle contents ---------------------------------------------------------------------


def test_all_weights_are_exported_for_fine_tuning(run: Run, bundle: Bundle) -> None:
    expected, _ = read_arrays(run.best)
    found = read_weights(bundle)
    assert found.keys() == expected.keys()
    for name, values in found.items():
        np.testing.assert_array_equal(values, expected[name], strict=True)


def test_damaged_weights_error_names_the_file(tmp_path: Path, plain: Run) -> None:
    bundle = export([plain], tmp_path / "bundle")
    (bundle.directory / "weights.npz").write_bytes(b"PK no zip")
    with pytest.raises(RunError, match=r"weights\.npz is damaged"):
        read_weights(bundle)
    with pytest.raises(BundleError, match=r"weights\.npz is not the file"):
        load(bundle.directory)


def test_saved_model_gives_the_same_scores(bundle: Bundle) -> None:
    loaded = tf.saved_model.load(str(bundle.directory / "saved_model"))
    scores, frame_scores = bundle.clip_and_frame_scores(*SAMPLE)
    served = loaded.signatures["serving_default"]
    found = served(frames=tf.constant(SAMPLE[0]), n_frames=tf.constant(SAMPLE[1]))
    np.testing.assert_allclose(found["scores"], scores, atol=1e-5)
    real = np.arange(SAMPLE[0].shape[1]) < SAMPLE[1][:, None]
    np.testing.assert_allclose(found["frame_scores"].numpy()[real], frame_scores[real], atol=1e-5)
    one = loaded.score(tf.constant(SAMPLE[0][:1]), tf.constant(SAMPLE[1][:1]))
    np.testing.assert_allclose(one["scores"], scores[:1], atol=1e-5)


def test_card_describes_the_head(run: Run, bundle: Bundle) -> None:
    card = bundle.card
    assert (card["name"], card["licence"], card["notes"]) == ("owls", "CC BY 4.0", "made")
    assert card["embedders"] == ["vggish"]
    assert bundle.labels == LABELS
    head = card["head"]
    config = run.config()
    assert (head["name"], head["settings"]) == ("feature-attention", dict(config.settings))
    model = build_head(config.head, config.head_settings, N_CLASSES)
    assert head["n_parameters"] == sum(np.prod(w.shape) for w in model.trainable_weights)
    assert card["metrics"] == {
        "validation": [{"epoch": 3, **MEASURED}],
        "evaluation": {**MEASURED, "mAP": 0.25},
    }
    assert card["training"][0]["configuration"] == config.as_json()
    assert {"head.onnx", "labels.csv", "weights.npz", "saved_model/saved_model.pb"} <= set(
        card["files"]
    )


def test_tagging_does_not_import_tensorflow(bundle: Bundle) -> None:
    code = (
        "import sys, numpy, classifier; bundle = classifier.load(sys.argv[1]); "
        "scores = bundle.scores(numpy.zeros((2, 3, 128), 'uint8'), [3, 1]); "
        "assert scores.shape == (2, 4); "
        "loaded = {'tensorflow', 'tf_keras', 'onnx', 'tf2onnx'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    root = ROOT
    command = [sys.executable, "-c", code, str(bundle.directory)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# --- Errors ------------------------------------------------------------------------------


def test_mismatching_export_is_not_written(
    tmp_path: Path, plain: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifier.training.network.MAX_DIFFERENCE", -1.0)
    with pytest.raises(ConversionError, match=r"differs from the trained .* nothing was written"):
        export([plain], tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_head_with_nan_scores_is_not_written(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", small_config(head="moe"))
    weights, facts = read_arrays(run.best)
    weights[next(iter(weights))][0] = np.nan
    write_arrays(run.best, weights, facts)
    with pytest.raises(ConversionError, match="by nan in scores"):
        export([run], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_existing_bundle_is_replaced_only_with_overwrite(tmp_path: Path, plain: Run) -> None:
    first = export([plain], tmp_path / "bundle")
    with pytest.raises(BundleError, match="--overwrite"):
        export([plain], tmp_path / "bundle", ExportOptions(notes="second"))
    assert load(first.directory).card["notes"] == ""
    second = export([plain], tmp_path / "bundle", ExportOptions(notes="second", overwrite=True))
    assert second.card["notes"] == "second"
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]


def test_incompatible_runs_are_rejected(tmp_path: Path, plain: Run) -> None:
    others = Labels((*LABELS.names[:3], "ant"), LABELS.mids)
    other_classes = made_run(tmp_path / "classes", small_config(), others)
    softmax = made_run(tmp_path / "softmax", small_config(loss="softmax"))
    embedder = Run(tmp_path / "embedder")
    embedder.begin(plain.config(), {**DATA_FACTS, "embedders": ["mini"]}, LABELS, [])
    write_arrays(embedder.best, read_arrays(plain.best)[0], {})
    for run, message in (
        (other_classes, "different classes"),
        (softmax, "softmax loss cannot form an ensemble"),
        (embedder, "different embedders"),
    ):
        with pytest.raises(RunError, match=message):
            export([plain, run], tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_run_without_weights_is_rejected(tmp_path: Path) -> None:
    run = begun_run(tmp_path / "run", small_config())
    with pytest.raises(RunError, match="stopped before its first checkpoint"):
        export([run], tmp_path / "bundle")
    with pytest.raises(RunError, match="is not a training run"):
        export([Run(tmp_path / "none")], tmp_path / "bundle")
    with pytest.raises(OptionError, match="no run to export"):
        export([], tmp_path / "bundle")


# --- Calibration and clip length ---------------------------------------------------------


def validated(run: Run, scores: Any, truth: Any, ids: Any = None) -> Run:
    run.write_validation(scores, truth, ids or [str(i) for i in range(len(scores))])
    return run


def too_sure(seed: int, n: int = 500) -> tuple[Any, Any]:
    """Return overconfident scores [n, 4], with logits twice too large, and their labels."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 1.5, (n, N_CLASSES))
    truth = rng.random((n, N_CLASSES)) < 1 / (1 + np.exp(-logits))
    return (1 / (1 + np.exp(-2 * logits))).astype(np.float32), truth


def test_scores_are_calibrated_on_held_out_clips(tmp_path: Path) -> None:
    config = small_config(head="moe", seed=1)
    run = made_run(tmp_path / "run", config)
    raw = export([run], tmp_path / "raw").scores(*SAMPLE)
    scores, truth = too_sure(0)
    bundle = export([validated(run, scores, truth)], tmp_path / "bundle")
    calibration = fit_calibration(scores, truth)
    assert calibration.scale == pytest.approx(0.5, abs=0.1)
    assert bundle.card["calibration"] == {"vggish": calibration.as_json()}
    np.testing.assert_allclose(bundle.scores(*SAMPLE), calibration(raw), atol=1e-6)
    np.testing.assert_allclose(bundle.scores(*SAMPLE, "mini"), raw, atol=1e-6)
    facts = bundle.card["metrics"]["calibration"]["vggish"]
    assert facts["ECE_after"] < 0.5 * facts["ECE_before"]
    assert facts["n_clips"] == 500
    text = (bundle.directory / "README.md").read_text("utf-8")
    assert f"{facts['ECE_before']:.4f} before, {facts['ECE_after']:.4f} after, on the 500" in text


def test_ensemble_calibration_uses_shared_or_separate_held_out_clips(
    tmp_path: Path,
) -> None:
    runs = [made_run(tmp_path / f"run{i}", small_config(head="moe", seed=i)) for i in range(2)]
    (scores, truth), (others, other_truth) = too_sure(0), too_sure(1)
    for run, values in zip(runs, (scores, others), strict=True):
        validated(run, values, truth)
    same = export(runs, tmp_path / "same")
    mean = (scores.astype(float) + others) / 2
    expected = fit_calibration(mean.astype(np.float32), truth)
    assert same.card["calibration"]["vggish"]["scale"] == pytest.approx(expected.scale, rel=1e-4)
    validated(runs[1], others, other_truth, [f"other{i}" for i in range(500)])
    folds = export(runs, tmp_path / "folds")
    expected = fit_calibration(
        np.concatenate([scores, others]), np.concatenate([truth, other_truth])
    )
    assert folds.card["calibration"] == {"vggish": expected.as_json()}
    runs[1].validation.unlink()
    assert "calibration" not in export(runs, tmp_path / "none").card


def test_calibration_data_is_used_per_embedder(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", small_config(head="moe", seed=1))
    raw = export([run], tmp_path / "raw")
    clips = made_clips(120)
    of_mini = [dataclasses.replace(clip, embedder="mini") for clip in made_clips(80, seed=5)]
    unlabelled = dataclasses.replace(clips[0], labels=None)
    store = ClipStore.from_clips([*clips, unlabelled, *of_mini])
    with pytest.raises(BundleError, match=r"clips to calibrate on: .*'mini'"):
        export([run], tmp_path / "bundle", ExportOptions(calibrate_on=store))
    embedders = ["vggish", "mini"]
    bundle = export(
        [run], tmp_path / "bundle", ExportOptions(calibrate_on=store, embedders=embedders)
    )
    assert bundle.card["embedders"] == embedders
    for name, indices in (("vggish", np.arange(120)), ("mini", np.arange(121, 201))):
        scores = raw.scores(*store.gather(indices))
        expected = fit_calibration(scores, store.label_matrix(indices, N_CLASSES))
        found = bundle.card.get("calibration", {}).get(name, Calibration().as_json())
        assert found["scale"] == pytest.approx(expected.scale, rel=1e-3)
        assert found["offset"] == pytest.approx(expected.offset, rel=1e-3)
    with pytest.raises(OptionError, match="none of the clips to calibrate on has labels"):
        export(
            [run], tmp_path / "no", ExportOptions(calibrate_on=ClipStore.from_clips([unlabelled]))
        )


def test_softmax_scores_are_not_calibrated(tmp_path: Path) -> None:
    run = made_run(tmp_path / "run", small_config(loss="softmax"))
    bundle = export([validated(run, *too_sure(0))], tmp_path / "bundle")
    assert "calibration" not in bundle.card


def test_bundle_records_its_clip_length(tmp_path: Path, bundle: Bundle) -> None:
    assert bundle.clip_frames == int(np.ceil(np.percentile(SAMPLE[1], 90)))
    run = made_run(tmp_path / "run", small_config(head="moe"))
    frames = np.zeros((20, 40, 128), np.uint8)
    run.write_sample(frames, np.array([10] * 19 + [40], np.int32))
    assert export([run], tmp_path / "b").clip_frames == 10
