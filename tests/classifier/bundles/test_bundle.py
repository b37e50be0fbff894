from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import classifier
from classifier.bundles.bundle import (
    BATCH_FRAMES,
    ONE_THREAD_FRAMES,
    Bundle,
    load,
    pad,
    score_batches,
)
from classifier.bundles.files import write_bundle
from classifier.frame_data.clips import Clip
from classifier.names import CARD_FILE, HEAD_FILE, LABELS_FILE, RUN_BUNDLE
from tests.support.bundles import (
    N_CLASSES,
    label_file,
    make_bundle,
    make_card,
    make_clip,
    make_labels,
    tiny_head,
    tiny_scores,
)
from vggish.errors import BundleError, OptionError
from vggish.params import VERSION


def random_clips(rng: np.random.Generator, lengths: list[int]) -> list[Any]:
    return [rng.integers(0, 256, (n, 128), np.uint8) for n in lengths]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Path:
    """Return a private copy of the bundle that a test may modify."""
    return Path(shutil.copytree(bundle.directory, tmp_path / "copied"))


# --- Scores ------------------------------------------------------------------------------


def test_scores_match_the_reference_for_any_clip_lengths(
    bundle: Bundle, rng: np.random.Generator
) -> None:
    clips = random_clips(rng, [10, 1, 0, 7, 10])
    scores = bundle.scores(*pad(clips))
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, tiny_scores(clips), atol=1e-5)


def test_clip_has_the_same_scores_alone_and_in_a_batch(
    bundle: Bundle, rng: np.random.Generator
) -> None:
    clips = random_clips(rng, [3, 300, 1, 12])
    alone = np.concatenate([bundle.scores(*pad([clip])) for clip in clips])
    np.testing.assert_allclose(bundle.scores(*pad(clips)), alone, atol=1e-6)


def test_padding_does_not_change_scores(bundle: Bundle, rng: np.random.Generator) -> None:
    frames, n_frames = pad(random_clips(rng, [4, 2, 0]))
    longer = rng.integers(0, 256, (3, 9, 128), np.uint8)
    for row, other, n in zip(frames, longer, n_frames, strict=True):
        other[:n] = row[:n]
    expected = bundle.clip_and_frame_scores(frames, n_frames)
    got = bundle.clip_and_frame_scores(longer, n_frames)
    np.testing.assert_allclose(got[0], expected[0], atol=1e-6)
    assert got[1] is not None
    assert expected[1] is not None
    np.testing.assert_allclose(got[1][:, :4], expected[1], atol=1e-6)
    assert not got[1][:, 4:].any()


def test_frame_scores_match_the_reference_for_each_frame(
    bundle: Bundle, rng: np.random.Generator
) -> None:
    clips = random_clips(rng, [5, 2])
    frame_scores = bundle.frame_scores(*pad(clips))
    assert frame_scores is not None
    assert frame_scores.shape == (2, 5, N_CLASSES)
    for got, clip in zip(frame_scores, clips, strict=True):
        np.testing.assert_allclose(
            got[: len(clip)], tiny_scores([row[None] for row in clip]), atol=1e-5
        )
        assert not got[len(clip) :].any()


def test_head_without_frame_scores(tmp_path: Path, rng: np.random.Generator) -> None:
    plain = make_bundle(tmp_path / "plain", of_frames=False)
    clips = random_clips(rng, [5, 2])
    assert not plain.has_frame_scores
    assert plain.frame_scores(*pad(clips)) is None
    scores, none = plain.clip_and_frame_scores(*pad(clips))
    assert none is None
    np.testing.assert_allclose(scores, tiny_scores(clips), atol=1e-5)


def test_empty_batch_and_empty_clips_are_accepted(bundle: Bundle) -> None:
    assert bundle.scores(*pad([])).shape == (0, N_CLASSES)
    nothing = np.zeros((2, 0, 128), np.uint8)
    scores, frame_scores = bundle.clip_and_frame_scores(nothing, [0, 0])
    np.testing.assert_allclose(scores, tiny_scores([nothing[0]] * 2), atol=1e-6)
    assert frame_scores is not None
    assert frame_scores.shape == (2, 0, N_CLASSES)


def test_large_batch_is_split(
    bundle: Bundle, rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, outputs: Any, inputs: Any) -> Any:
            seen.append(int(np.prod(inputs["frames"].shape[:2])))
            return self.session.run(outputs, inputs)

    for name in ("_session", "_wide_session"):
        monkeypatch.setattr(bundle, name, Watched(getattr(bundle, name)))
    clips = random_clips(rng, [10] * 1000)
    np.testing.assert_allclose(bundle.scores(*pad(clips)), tiny_scores(clips), atol=1e-5)
    assert sum(seen) == 10_000
    assert BATCH_FRAMES // 2 < max(seen) <= BATCH_FRAMES
    seen.clear()
    (long,) = random_clips(rng, [2 * BATCH_FRAMES])
    bundle.scores(*pad([long, long[:5]]))
    assert seen == [2 * BATCH_FRAMES, 5]


def test_clip_uses_one_thread_and_large_batch_uses_all_cores(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    bundle = make_bundle(tmp_path / "tiny")
    few = random_clips(rng, [10] * (ONE_THREAD_FRAMES // 10))
    scores = bundle.scores(*pad(few))
    assert bundle._session.get_session_options().intra_op_num_threads == 1
    assert "_wide_session" not in vars(bundle)
    many = bundle.scores(*pad(few * 2))
    assert bundle._wide_session.get_session_options().intra_op_num_threads == 0
    assert "_wide_session" in vars(bundle)
    np.testing.assert_allclose(many, np.concatenate([scores, scores]), atol=1e-6)


def test_scoring_is_thread_safe(bundle: Bundle, rng: np.random.Generator) -> None:
    batches = [pad(random_clips(rng, [n, 5])) for n in range(1, 25)]
    alone = [bundle.scores(*batch) for batch in batches]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda batch: bundle.scores(*batch), batches))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize(
    ("frames", "n_frames", "message"),
    [
        (np.zeros((1, 2, 128), np.float32), [2], "uint8.*float32.*--values raw"),
        (np.zeros((2, 128), np.uint8), [2], r"\[batch, time, 128\].*\[2, 128\]"),
        (np.zeros((1, 2, 64), np.uint8), [2], r"\[1, 2, 64\]"),
        (np.zeros((1, 2, 128), np.uint8), [1, 2], "1 whole numbers"),
        (np.zeros((1, 2, 128), np.uint8), [1.5], "whole numbers.*float64"),
        (np.zeros((1, 2, 128), np.uint8), [3], "0 to 2.*3 to 3"),
        (np.zeros((1, 2, 128), np.uint8), [-1], "0 to 2.*-1"),
    ],
)
def test_invalid_batch_is_rejected(
    bundle: Bundle, frames: Any, n_frames: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        bundle.scores(frames, n_frames)


# --- Batches of clips --------------------------------------------------------------------


def test_clips_are_scored_lazily_and_in_order(bundle: Bundle) -> None:
    lengths = [10, 300, 0, 1, 299, 20, *[10] * 900, 5000, 3]
    taken: list[Clip] = []

    def clips() -> Iterator[Clip]:
        for number, n in enumerate(lengths):
            taken.append(make_clip(f"c{number}", n, seed=number))
            yield taken[-1]

    done: list[str] = []
    for batch, scores in score_batches(bundle, clips()):
        np.testing.assert_allclose(scores, tiny_scores([c.frames for c in batch]), atol=1e-5)
        assert len(batch) == 1 or len(batch) * max(len(c.frames) for c in batch) <= BATCH_FRAMES
        done += [clip.clip_id for clip in batch]
        assert len(taken) <= len(done) + 1
    assert done == [f"c{number}" for number in range(len(lengths))]


def test_clips_use_the_calibration_of_their_embedder(tmp_path: Path) -> None:
    mini = {"scale": 0.5, "offset": 1.0}
    calibrated = make_bundle(
        tmp_path / "b", embedders=["vggish", "mini"], calibration={"mini": mini}
    )
    clips = [make_clip(f"c{i}", 4, seed=i, embedder=("", "mini")[i // 3 % 2]) for i in range(12)]
    batches = list(score_batches(calibrated, clips))
    assert [clip.clip_id for batch, _ in batches for clip in batch] == [f"c{i}" for i in range(12)]
    for batch, scores in batches:
        raw = tiny_scores([clip.frames for clip in batch])
        expected = raw
        if batch[0].embedder == "mini":
            expected = 1 / (1 + np.exp(-(0.5 * np.log(raw / (1 - raw)) + 1)))
        np.testing.assert_allclose(scores, expected, atol=1e-5)


def test_no_clips_give_no_batches(bundle: Bundle) -> None:
    assert list(score_batches(bundle, [])) == []


# --- Embedders ---------------------------------------------------------------------------


def test_bundle_accepts_only_its_embedders(bundle: Bundle, tmp_path: Path) -> None:
    assert bundle.accepts("vggish")
    assert bundle.accepts("")  # AudioSet records name no embedder
    assert not bundle.accepts("mini")
    bundle.check_embedder("vggish")
    bundle.check_embedder("mini", force=True)
    with pytest.raises(BundleError, match=r"'mini'.*'tiny'.*'vggish'[\s\S]*--force"):
        bundle.check_embedder("mini")
    other = make_bundle(tmp_path / "mini", embedders=["mini", "micro"])
    with pytest.raises(BundleError, match=r"'vggish'.*'mini', 'micro'"):
        other.check_embedder("")


# --- Writing and reading -----------------------------------------------------------------


def test_written_bundle_loads_with_the_same_card(bundle: Bundle) -> None:
    head = (bundle.directory / "head.onnx").read_bytes()
    assert bundle.sha256 == hashlib.sha256(head).hexdigest()
    assert bundle.labels == make_labels()
    assert bundle.name == "tiny"
    assert bundle.card.items() >= make_card().items()
    assert bundle.card["format"] == 1
    assert bundle.card["audiotag_version"] == VERSION
    assert bundle.card["files"]["head.onnx"] == {"sha256": bundle.sha256, "bytes": len(head)}
    assert set(bundle.card["files"]) == {"head.onnx", "labels.csv", "weights.npz"}
    assert bundle.provenance == {"name": "tiny", "head": "mean", "sha256": bundle.sha256}
    assert classifier.load(str(bundle.directory)).sha256 == bundle.sha256


def test_loaded_card_can_be_written_again(bundle: Bundle, tmp_path: Path) -> None:
    files = {name: (bundle.directory / name).read_bytes() for name in bundle.card["files"]}
    old = {**bundle.card, "format": 0, "audiotag_version": "0", "files": {}}
    write_bundle(tmp_path / "again", files, old)
    assert load(tmp_path / "again").card == bundle.card


def test_loading_a_run_loads_its_bundle(bundle: Bundle, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text("{}")
    with pytest.raises(BundleError, match=r"training run without a bundle[\s\S]*audiotag exp"):
        load(run)
    shutil.copytree(bundle.directory, run / "bundle")
    assert load(run).directory == run / "bundle"


def test_loading_and_scoring_do_not_import_tensorflow(bundle: Bundle) -> None:
    program = (
        "import sys, numpy, classifier\n"
        "bundle = classifier.load(sys.argv[1])\n"
        "bundle.scores(numpy.zeros((1, 2, 128), 'uint8'), [2])\n"
        "classifier.Tagger(bundle).tag_frames(numpy.zeros((2, 128), 'uint8'))\n"
        "import classifier.predict, classifier.evaluate\n"
        "heavy = {'tensorflow', 'tf_keras', 'onnx', 'matplotlib', 'pyarrow'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(bundle.directory)], check=True, timeout=60)


def test_package_exports_all_listed_names() -> None:
    assert set(dir(classifier)) >= set(classifier.__all__)
    for name in classifier.__all__:
        assert getattr(classifier, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = classifier.nothing


def test_files_may_be_in_subdirectories_but_not_outside(tmp_path: Path) -> None:
    files = {"head.onnx": tiny_head(), "labels.csv": label_file(make_labels())}
    write_bundle(tmp_path / "b", {**files, "saved_model/x/y.pb": b"graph"}, make_card())
    assert (tmp_path / "b/saved_model/x/y.pb").read_bytes() == b"graph"
    assert load(tmp_path / "b").card["files"]["saved_model/x/y.pb"]["bytes"] == 5
    for name in ("../x", "/x", "a/../../x", "..\\x", ""):
        with pytest.raises(BundleError, match="must be inside it"):
            write_bundle(tmp_path / "c", {**files, name: b""}, make_card())
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_bundle_is_replaced_only_with_overwrite(copied: Path) -> None:
    files = {"head.onnx": tiny_head(), "labels.csv": label_file(make_labels())}
    with pytest.raises(BundleError, match=r"already a bundle.*--overwrite"):
        write_bundle(copied, files, make_card(name="new"))
    assert load(copied).name == "tiny"
    write_bundle(copied, files, make_card(name="new"), overwrite=True)
    assert load(copied).name == "new"
    assert not (copied / "weights.npz").exists()
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_directory_that_is_not_a_bundle_is_never_replaced(tmp_path: Path) -> None:
    files = {"head.onnx": tiny_head(), "labels.csv": label_file(make_labels())}
    (tmp_path / "home").mkdir()
    write_bundle(tmp_path / "home", files, make_card())  # an empty directory may be replaced
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").write_bytes(b"cat")
    (tmp_path / "file").write_bytes(b"")
    for name in ("photos", "file"):
        with pytest.raises(BundleError, match="not a bundle"):
            write_bundle(tmp_path / name, files, make_card(), overwrite=True)
    assert (tmp_path / "photos/cat.jpg").read_bytes() == b"cat"


def test_failed_write_leaves_the_old_bundle(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"head.onnx": tiny_head(), "labels.csv": label_file(make_labels())}
    rename = Path.rename

    def broken(path: Path, target: Path) -> Path:
        if path.suffix == ".partial":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(BundleError, match=r"cannot write .*No space left"):
        write_bundle(copied, files, make_card(name="new"), overwrite=True)
    assert load(copied).name == "tiny"
    assert [path.name for path in copied.parent.iterdir()] == ["copied"]


def test_overwriting_through_a_symlink_keeps_the_symlink(copied: Path, tmp_path: Path) -> None:
    link = tmp_path / "latest"
    link.symlink_to(copied, target_is_directory=True)
    files = {"head.onnx": tiny_head(), "labels.csv": label_file(make_labels())}
    write_bundle(link, files, make_card(name="new"), overwrite=True)
    assert link.is_symlink()
    assert load(copied).name == "new"


@pytest.mark.parametrize(
    ("without", "changes", "message"),
    [
        ("head.onnx", {}, "needs head.onnx. Received: 'labels.csv'"),
        ("labels.csv", {}, "needs labels.csv"),
        (None, {"n_classes": "5"}, "'n_classes', a int"),
        (None, {"embedders": None}, "'embedders', a list"),
        (None, {"metrics": {"mAP": float("nan")}}, "must be JSON"),
        (None, {"created": Path("x")}, "must be JSON"),
        (None, {"name": "\udcff"}, "must be JSON"),
    ],
)
def test_invalid_bundle_is_not_written(
    tmp_path: Path, without: str | None, changes: dict[str, Any], message: str
) -> None:
    files = {"head.onnx": b"head", "labels.csv": b"labels"}
    files.pop(without or "", None)
    with pytest.raises(BundleError, match=message):
        write_bundle(tmp_path / "b", files, make_card(**changes))
    assert list(tmp_path.iterdir()) == []


# --- Invalid bundles ---------------------------------------------------------------------


def test_loading_a_path_without_a_bundle_explains_the_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, message in (
        (tmp_path / "absent", "there is no .*absent"),
        (tmp_path / "file", "is a file"),
        (tmp_path, "has no bundle.json"),
    ):
        with pytest.raises(BundleError, match=message + r"[\s\S]*audiotag export RUN -o DIR"):
            load(path)


def change_card(place: Path, **changes: Any) -> None:
    path = place / "bundle.json"
    card = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in card.items() if value is not None}))


def rewrite(place: Path, name: str, data: bytes) -> None:
    """Replace a file and update its entry in the card."""
    (place / name).write_bytes(data)
    files = json.loads((place / "bundle.json").read_text())["files"]
    files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
    change_card(place, files=files)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: (p / "head.onnx").unlink(), "damaged: cannot read head.onnx"),
        (lambda p: (p / "head.onnx").write_bytes(b"x"), "damaged: head.onnx is not the file"),
        (lambda p: (p / "labels.csv").unlink(), "damaged: cannot read labels.csv"),
        (lambda p: (p / "labels.csv").write_bytes(b"x"), "damaged: labels.csv is not the file"),
        (lambda p: (p / "weights.npz").write_bytes(b"x"), "damaged: weights.npz is not the file"),
        (lambda p: (p / "bundle.json").write_text("{"), "cannot read .*bundle.json"),
        (lambda p: (p / "bundle.json").write_bytes(b"\xff"), "cannot read .*bundle.json"),
        (lambda p: (p / "bundle.json").write_text("[]"), "not the card of a bundle"),
        (lambda p: change_card(p, format=None), "not the card of a bundle"),
        (lambda p: change_card(p, format=2), "format 2.*reads 1.*pip install --upgrade"),
        (lambda p: change_card(p, input={"kind": "log-mel"}), "input .*'log-mel'.*--upgrade"),
        (lambda p: change_card(p, input="frames"), "'input' with a kind. Received: 'frames'"),
        (lambda p: change_card(p, n_classes=4), "5 classes, bundle.json says 4"),
        (lambda p: change_card(p, n_classes=None), "'n_classes', a int. Received: None"),
        (lambda p: change_card(p, files={}), "does not list head.onnx"),
        (lambda p: change_card(p, files={"head.onnx": 1, "labels.csv": {}}), "has no sha256"),
        (lambda p: rewrite(p, "labels.csv", b"nonsense"), "the labels .* are wrong"),
        (lambda p: rewrite(p, "head.onnx", b"nonsense"), "cannot load the head"),
        (lambda p: rewrite(p, "head.onnx", tiny_head(4)), r"5 labels, but .*\[1, 4\]"),
        (lambda p: rewrite(p, "head.onnx", tiny_head(factor=np.nan)), "NaN or infinite scores"),
    ],
)
def test_damage_is_detected_and_described(
    copied: Path, damage: Callable[[Path], Any], message: str
) -> None:
    damage(copied)
    with pytest.raises(BundleError, match=message) as caught:
        load(copied)
    assert "copied" in str(caught.value)


def test_network_that_is_not_a_head_is_rejected(copied: Path, small_network: Path) -> None:
    rewrite(copied, "head.onnx", small_network.read_bytes())
    with pytest.raises(BundleError, match=r"not a head: it must map frames.*patches"):
        load(copied)


def test_card_describes_the_input(bundle: Bundle) -> None:
    assert bundle.card["input"] == {"kind": "frames", "embedders": ["vggish"]}
    assert bundle.card["embedders"] == ["vggish"]


def test_embedders_are_read_from_the_old_or_new_key(copied: Path) -> None:
    card = json.loads((copied / "bundle.json").read_text())
    for missing in ("input", "embedders"):
        rest = {key: value for key, value in card.items() if key != missing}
        (copied / "bundle.json").write_text(json.dumps(rest))
        assert load(copied).accepts("vggish")
        assert not load(copied).accepts("mini")


def test_files_not_needed_for_tagging_may_be_deleted(copied: Path) -> None:
    (copied / "weights.npz").unlink()
    assert load(copied).name == "tiny"


def test_card_cannot_point_outside_the_bundle(copied: Path) -> None:
    files = json.loads((copied / "bundle.json").read_text())["files"]
    change_card(copied, files={**files, "../../secret": {"sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(BundleError, match="must be inside it"):
        load(copied)


def test_runtime_failure_of_a_head_names_the_bundle(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def run(self, outputs: Any, inputs: Any) -> Any:
            raise RuntimeError("out of memory\nat node 7")

    monkeypatch.setattr(bundle, "_session", Failing())
    with pytest.raises(BundleError, match=r"tiny failed on frames \[1, 2, 128\]: out of memory$"):
        bundle.scores(np.zeros((1, 2, 128), np.uint8), [2])


def test_file_names_match_the_documented_format() -> None:
    names = (HEAD_FILE, LABELS_FILE, CARD_FILE, RUN_BUNDLE)
    assert names == ("head.onnx", "labels.csv", "bundle.json", "bundle")
