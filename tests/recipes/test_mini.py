"""Tests of the recipe of the built-in embedder, on synthetic clips and networks."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.labels import audioset_labels
from classifier.training.config import TrainingConfig
from classifier.training.runs import Run, read_arrays, write_arrays
from recipes.mini import views
from recipes.mini.clip_index import (
    PAIRS,
    TEST_FOLD,
    Bank,
    IndexedClip,
    draw_weights,
    load_bank,
    parts,
    read_index,
)
from recipes.mini.pairs import cut_pairs
from recipes.mini.teacher import N_TEACHER_CLASSES, N_TEACHER_FEATURES, Teacher, teacher_classes
from recipes.mini.views import (
    ViewMaker,
    Views,
    label_patches,
    load_views,
    make_views,
    pad_to_whole_patches,
)
from recipes.mini.zero_shot import esc50_names, urbansound8k_names, zero_shot
from vggish.errors import AudioError
from vggish.mel_features import log_mel_patches, n_patches
from vggish.network.runtime import Embedder
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, PATCH_SAMPLES, SAMPLE_RATE_HZ
from vggish.postprocess import dequantize

HOP_SAMPLES = 15_360
N_CLASSES = len(audioset_labels())


class FakeTeacher:
    """A stand-in for YAMNet whose output depends only on the loudness of the window."""

    def __init__(self, path: Path | None = None) -> None:
        self.windows: list[np.ndarray] = []

    def __call__(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert window.shape == (PATCH_SAMPLES,)
        self.windows.append(window)
        loudness = float(np.sqrt(np.mean(np.square(window))))
        logits = np.linspace(-6, 2, N_TEACHER_CLASSES, dtype=np.float32) + loudness
        return logits, np.full(N_TEACHER_FEATURES, loudness, np.float32)


def indexed_clip(
    path: str, source: str, *, label: str = "x", extra: str = "", seconds: float = 5
) -> IndexedClip:
    return IndexedClip(Path(path), source, label, seconds, extra)


def bank_of(*waveforms: np.ndarray) -> Bank:
    samples = [np.round(waveform * 32767).astype(np.int16) for waveform in waveforms]
    return Bank(np.concatenate(samples), np.cumsum([0, *map(len, samples)]))


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return level * rng.uniform(-1, 1, round(seconds * SAMPLE_RATE_HZ)).astype(np.float32)


def view_maker_of(*waveforms: np.ndarray) -> ViewMaker:
    n = len(waveforms)
    return ViewMaker(bank_of(*waveforms), np.arange(n), np.full(n, 1 / n), Path("none"), 0)


@pytest.fixture
def only_gain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turn off all augmentations of views but the random gain."""
    for kind in ("MIX", "SPEED", "EQUALISE", "NOISE"):
        monkeypatch.setattr(views, f"_{kind}_PROBABILITY", 0.0)


# --- The split of the clips --------------------------------------------------------------


def many_clips() -> list[IndexedClip]:
    """Return two collections that share some recordings, AudioSet pairs, and other clips."""
    esc50 = [
        indexed_clip(f"{fold}-{recording}-{take}-0.opus", "esc50", extra=f"fold={fold};esc10=False")
        for recording in range(1000, 1400)
        for fold in (recording % 4 + 1,)
        for take in "AB"
    ]
    urban = [
        indexed_clip(f"{recording}-3-0-{part}.opus", "urbansound8k")
        for recording in range(1300, 1800)
        for part in range(2)
    ]
    pairs = [indexed_clip(f"video{number}.opus", PAIRS) for number in range(500)]
    return [*esc50, *urban, *pairs, *(indexed_clip(f"{n}.opus", "other") for n in range(300))]


def test_recordings_stay_together_across_collections() -> None:
    clips = many_clips()
    parts_of_recording = defaultdict(set)
    for clip, part in zip(clips, parts(clips), strict=True):
        parts_of_recording[clip.recording].add(part)
    assert {len(found) for found in parts_of_recording.values()} == {1}
    shared = [clip for clip in clips if clip.source == "urbansound8k" and "1303-" in clip.path.name]
    assert {clip.recording for clip in shared} == {"freesound 1303"}


def test_test_clips_are_never_trained_on() -> None:
    clips = many_clips()
    part_of = dict(zip(clips, parts(clips), strict=True))
    folds = {clip: clip.fold for clip in clips if clip.source == "esc50"}
    assert {part_of[clip] for clip, fold in folds.items() if fold == TEST_FOLD} == {"test"}
    # A recording in fold 4 also occurs in the test part of UrbanSound8K.
    test_recordings = {clip.recording for clip, fold in folds.items() if fold == TEST_FOLD}
    shared = [c for c in clips if c.source == "urbansound8k" and c.recording in test_recordings]
    assert shared
    assert {part_of[clip] for clip in shared} == {"test"}
    assert {part_of[clip] for clip in clips if clip.source == "other"} == {"train", "validation"}


def test_about_a_tenth_of_pairs_and_recordings_is_for_testing() -> None:
    clips = many_clips()
    split = list(zip(clips, parts(clips), strict=True))
    for source in (PAIRS, "urbansound8k"):
        parts_of_source = {
            clip.recording: part
            for clip, part in split
            if clip.source == source and (source == PAIRS or int(clip.path.name[:4]) >= 1400)
        }
        share = sum(part == "test" for part in parts_of_source.values()) / len(parts_of_source)
        assert 0.05 < share < 0.15


def test_parts_do_not_depend_on_the_order_or_on_other_clips() -> None:
    clips = many_clips()
    in_order = dict(zip(clips, parts(clips), strict=True))
    assert dict(zip(clips[::-1], parts(clips[::-1]), strict=True)) == in_order
    pairs = [clip for clip in clips if clip.source == PAIRS]
    assert parts(pairs) == [in_order[clip] for clip in pairs]


def test_long_clips_and_small_collections_are_drawn_more_often() -> None:
    many = [indexed_clip(f"{n}.opus", "many", seconds=4) for n in range(80)]
    others = [indexed_clip("a.opus", "few", seconds=4), indexed_clip("b.opus", "long", seconds=100)]
    weights = draw_weights([*many, *others])
    assert weights.sum() == pytest.approx(1)
    assert weights[80] == pytest.approx(2 * weights[0])
    assert weights[81] == pytest.approx(math.sqrt(2.5) * weights[80])


@pytest.fixture
def clip_directory(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    rows = [["path", "source", "label", "seconds", "extra"]]
    for number, fold in enumerate((4, 1, 2)):
        name = f"audio/{fold}-{number}-A-0.wav"
        write_sound(name, seconds=1.5, seed=number)
        rows.append([name.removeprefix("audio/"), "esc50", "dog", "1.5", f"fold={fold}"])
    with open(tmp_path / "audio" / "index.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "audio"


def test_index_is_read_in_the_order_of_paths(clip_directory: Path) -> None:
    clips = read_index(clip_directory)
    assert [clip.fold for clip in clips] == [1, 2, 4]
    assert [clip.clip_id for clip in clips] == ["1-1-A-0", "2-2-A-0", "4-0-A-0"]
    assert all(clip.path.is_file() and clip.seconds == 1.5 for clip in clips)


def test_bank_contains_all_waveforms_and_is_decoded_once(
    clip_directory: Path, tmp_path: Path
) -> None:
    import soundfile

    clips = read_index(clip_directory)
    bank = load_bank(clips, tmp_path / "bank.npz")
    for index, clip in enumerate(clips):
        expected, _ = soundfile.read(clip.path)
        assert np.abs(bank.waveform(index) - expected).max() <= 1 / 32768
    for clip in clips:
        clip.path.unlink()
    again = load_bank(clips, tmp_path / "bank.npz")
    assert np.array_equal(again.samples, bank.samples)
    with pytest.raises(AudioError, match="another index"):
        load_bank(clips[1:], tmp_path / "bank.npz")


# --- Zero-shot classification ------------------------------------------------------------


def test_zero_shot_tables_refer_to_audioset_classes() -> None:
    esc50, urban = esc50_names(), urbansound8k_names()
    assert (len(esc50), len(urban)) == (45, 10)
    assert not {"insects", "can_opening", "washing_machine"} & set(esc50)
    for names in (esc50, urban):
        for indices in names.values():
            assert indices
            assert all(0 <= index < N_CLASSES for index in indices)
    labels = audioset_labels().names
    assert [labels[index] for index in esc50["dog"]] == ["Dog", "Bark"]
    assert [labels[index] for index in urban["street_music"]] == ["Music"]


def test_score_of_a_class_is_the_highest_of_its_audioset_classes() -> None:
    names = esc50_names()
    scores = np.zeros((3, N_CLASSES))
    scores[0, names["dog"][1]] = 0.9  # correct
    scores[1, names["cat"][0]] = 0.2  # third, after two others
    scores[1, names["rain"][0]], scores[1, names["cow"][0]] = 0.4, 0.3
    scores[2] = 0.5  # after six others
    scores[2, names["siren"]] = 0.1
    assert zero_shot(scores, ["dog", "cat", "siren"]) == (1 / 3, 2 / 3)


def test_audioset_classes_outside_the_tables_are_ignored() -> None:
    scores = np.full((1, N_CLASSES), 0.9)
    scores[0, esc50_names()["dog"]] = 0.95
    scores[0, audioset_labels().index_of("Speech")] = 1.0
    assert zero_shot(scores, ["dog"]) == (1.0, 1.0)


def test_teacher_has_521_of_the_audioset_classes() -> None:
    classes = teacher_classes()
    assert len(classes) == N_TEACHER_CLASSES
    missing = set(range(N_CLASSES)) - set(classes.tolist())
    assert "Battle cry" in [audioset_labels().names[index] for index in missing]


def test_logits_of_yamnet_match_its_scores(shared_data: Path) -> None:
    """The logits and features are intermediate tensors, found by name and shape."""
    found = sorted((shared_data / "yamnet").glob("*.tflite"))
    if not found:
        pytest.skip("needs YAMNet")
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    plain = interpreter.Interpreter(str(found[0]))
    plain.allocate_tensors()
    window = noise(0.975, level=0.5)
    details = plain.get_input_details()[0]
    plain.set_tensor(details["index"], window.reshape(details["shape"]))
    plain.invoke()
    scores = next(
        plain.get_tensor(output["index"]).ravel()
        for output in plain.get_output_details()
        if N_TEACHER_CLASSES in output["shape"]
    )
    logits, features = Teacher(found[0])(window)
    assert features.shape == (N_TEACHER_FEATURES,)
    from_logits = 1 / (1 + np.exp(-np.maximum(logits, -50)))
    assert np.abs(from_logits - scores).max() < 0.01


# --- Views -------------------------------------------------------------------------------


@pytest.mark.parametrize("patches_per_view", [1, 3])
def test_views_depend_only_on_the_seed(patches_per_view: int) -> None:
    view_maker = view_maker_of(noise(5, 1), noise(4, 2), noise(0.3, 3))

    def draw(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [view_maker.view(rng, patches_per_view) for _ in range(20)]

    first, second, other = draw(7), draw(7), draw(8)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_views_are_whole_patches_within_full_scale() -> None:
    view_maker = view_maker_of(noise(8, 1, level=1.0), noise(2.1, 2, level=1.0))
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(60):
        view = view_maker.view(rng, 4)
        assert view.dtype == np.float32
        assert np.abs(view).max() <= 1
        assert (len(view) - PATCH_SAMPLES) % HOP_SAMPLES == 0
        lengths.add((len(view) - PATCH_SAMPLES) // HOP_SAMPLES + 1)
    # Four patches, or as many as the shorter clip has at its speed.
    assert lengths == {2, 3, 4} or lengths == {2, 4}


@pytest.mark.usefixtures("only_gain")
def test_short_clip_is_padded_with_silence() -> None:
    short = noise(0.3)
    view = view_maker_of(short).view(np.random.default_rng(0), 5)
    assert view.shape == (PATCH_SAMPLES,)
    assert np.abs(view[: len(short)]).max() > 0
    assert not view[len(short) :].any()


@pytest.mark.usefixtures("only_gain")
def test_view_is_an_excerpt_of_its_clip_with_another_gain() -> None:
    original = noise(3)
    view = view_maker_of(original).view(np.random.default_rng(1), 2)
    windows = np.lib.stride_tricks.sliding_window_view(original, len(view))
    products = windows @ view
    similarity = products / np.linalg.norm(windows, axis=1) / np.linalg.norm(view)
    assert similarity.max() == pytest.approx(1, abs=1e-3)


def test_louder_of_two_excerpts_is_used() -> None:
    """In a mostly silent clip, two excerpts are both silent less often than one is."""
    mostly_silent = np.concatenate([np.zeros(8 * SAMPLE_RATE_HZ, np.float32), noise(2)])
    view_maker = view_maker_of(mostly_silent)
    rng = np.random.default_rng(0)
    silent = [not view_maker._window(rng, 1).any() for _ in range(300)]
    share = 7 / 9  # of all positions, approximately
    assert np.mean(silent) == pytest.approx(share**2, abs=0.1)


def test_patches_of_a_view_are_those_of_its_waveform() -> None:
    waveforms = [noise(0.975, 1), noise((2 * HOP_SAMPLES + PATCH_SAMPLES) / SAMPLE_RATE_HZ, 2)]
    teacher = FakeTeacher()
    found = label_patches(waveforms, teacher)  # type: ignore[arg-type]
    assert found.lengths.tolist() == [1, 3]
    windows = [waveforms[0], *(waveforms[1][i * HOP_SAMPLES :][:PATCH_SAMPLES] for i in range(3))]
    for patch, window, received in zip(found.patches, windows, teacher.windows, strict=True):
        assert np.array_equal(received, window)
        alone = log_mel_patches(window, tail="drop")
        assert np.abs(patch - alone[0]).max() < 0.01
    expected = [teacher(window)[1][0] for window in windows]
    assert found.features[:, 0] == pytest.approx(expected, rel=1e-3)
    assert found.logits.shape == (4, N_TEACHER_CLASSES)


@pytest.mark.parametrize("n_samples", [1, 7_000, 15_600, 16_000, 23_040, 80_000])
def test_padded_clip_has_the_patches_of_embed(n_samples: int) -> None:
    waveform = noise(5)[:n_samples]
    padded = pad_to_whole_patches(waveform)
    found = label_patches([padded], FakeTeacher())  # type: ignore[arg-type]
    assert found.lengths.tolist() == [n_patches(n_samples)]
    assert np.abs(found.patches - log_mel_patches(waveform)).max() < 0.01


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # forks with threads
def test_files_of_views_do_not_depend_on_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "Teacher", FakeTeacher)
    monkeypatch.setattr(views, "_PATCHES_PER_FILE", 4)
    view_maker = view_maker_of(noise(5, 1), noise(4, 2))
    files = make_views(view_maker, 10, 2, tmp_path, n_processes=1)
    assert [path.name for path in files] == [f"views-{n:04}.npz" for n in range(3)]
    loaded = load_views(files)
    assert loaded.lengths.tolist() == [2] * 6
    assert len(loaded.patches) == len(loaded.logits) == len(loaded.features) == 12
    with np.load(files[0]) as kept:
        before = kept["patches"]
    files[1].unlink()
    times = {path: path.stat().st_mtime_ns for path in (files[0], files[2])}
    make_views(view_maker, 10, 2, tmp_path, n_processes=1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    again = load_views(files)
    assert np.array_equal(again.patches, loaded.patches)
    assert not np.array_equal(again.patches[4:8], before)


# --- Pairs -------------------------------------------------------------------------------


def test_pairs_are_cut_at_whole_seconds() -> None:
    waveform = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    frames = np.arange(10, dtype=np.uint8).repeat(EMBEDDING_SIZE).reshape(10, -1)
    found = list(cut_pairs(waveform, frames))
    assert [window[0] for window, _ in found] == [k * SAMPLE_RATE_HZ for k in range(10)]
    assert {len(window) for window, _ in found} == {PATCH_SAMPLES}
    assert np.array_equal(np.stack([embedding for _, embedding in found]), dequantize(frames))


def test_pairs_beyond_the_waveform_are_skipped() -> None:
    waveform = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    frames = np.zeros((12, EMBEDDING_SIZE), np.uint8)
    starts = [window[0] for window, _ in cut_pairs(waveform, frames, (-0.06, 0.0, 0.06))]
    assert starts[:3] == [0, 960, 15_040]  # the first would begin before the waveform
    assert starts[-1] == 9 * SAMPLE_RATE_HZ  # the last would end after it
    assert len(starts) == 28


# --- Alignment ---------------------------------------------------------------------------


@pytest.fixture
def head_run(tmp_path: Path) -> Run:
    """A run of the smallest head, with random weights."""
    pytest.importorskip("tensorflow")
    from classifier.heads.build import build_head
    from classifier.training.transfer import weights_of

    config = TrainingConfig(head="logistic")
    run = Run(tmp_path / "runs" / "logistic")
    run.begin(config, {"sources": ["synthetic"]}, audioset_labels(), [])
    model = build_head(config.head, config.head_settings, N_CLASSES, n_frames=1)
    rng = np.random.default_rng(5)
    drawn = {
        name: rng.normal(size=value.shape).astype(np.float32)
        if name.startswith("classes")
        else value
        for name, value in weights_of(model).items()
    }
    write_arrays(run.best, drawn, {"epoch": 1})
    return run


def random_embeddings(n: int = 300) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(n, EMBEDDING_SIZE)).clip(-2, 2).astype(np.float32)


def test_target_logits_have_the_mean_of_the_head(head_run: Run) -> None:
    from recipes.mini.alignment import load_frozen

    embeddings = random_embeddings()
    rng = np.random.default_rng(7)
    teacher_logits = rng.normal(-3, 2, (300, N_TEACHER_CLASSES)).astype(np.float32)
    head = load_frozen(head_run.directory, embeddings, teacher_logits)
    own, targets = head.logits(embeddings).numpy(), head.targets(teacher_logits).numpy()
    assert head.name == "logistic"
    assert own.shape == targets.shape == (300, N_TEACHER_CLASSES)
    assert targets.mean(axis=0) == pytest.approx(own.mean(axis=0), abs=1e-3)
    # A slope is the mean of the class's own and the median over all classes.
    ratio = own.std(axis=0) / teacher_logits.std(axis=0)
    expected = (ratio + np.median(ratio)) / 2 * teacher_logits.std(axis=0)
    assert targets.std(axis=0) == pytest.approx(expected, rel=1e-3)


def test_scale_and_offset_of_the_teacher_are_compensated(head_run: Run) -> None:
    from recipes.mini.alignment import load_frozen

    embeddings = random_embeddings()
    some = np.zeros((300, N_TEACHER_CLASSES), np.float32)
    own = load_frozen(head_run.directory, embeddings, some).logits(embeddings).numpy()
    offsets = np.linspace(-2, 2, N_TEACHER_CLASSES, dtype=np.float32)
    head = load_frozen(head_run.directory, embeddings, 1.5 * own + offsets)
    assert head.targets(1.5 * own + offsets).numpy() == pytest.approx(own, abs=1e-3)


def test_frozen_head_scores_embeddings_like_their_codes(head_run: Run) -> None:
    from classifier.training.network import Network
    from classifier.training.transfer import set_weights
    from recipes.mini.alignment import load_frozen

    frames = np.random.default_rng(8).integers(0, 256, (20, EMBEDDING_SIZE)).astype(np.uint8)
    some = np.zeros((20, N_TEACHER_CLASSES), np.float32)
    head = load_frozen(head_run.directory, dequantize(frames), some)
    network = Network([head_run.config()], N_CLASSES)
    set_weights(network.model, read_arrays(head_run.best)[0])
    expected = network.scores(frames[:, np.newaxis], np.ones(20))[:, teacher_classes()]
    scores = 1 / (1 + np.exp(-head.logits(dequantize(frames)).numpy()))
    assert np.abs(scores - expected).max() < 0.01
    assert not head.model.trainable_variables


# --- Training ----------------------------------------------------------------------------


def random_views(n: int = 40, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    return Views(
        np.ones(n, np.int64),
        rng.normal(-2, 2, (n, PATCH_FRAMES, N_BANDS)).astype(np.float16),
        rng.normal(-4, 2, (n, N_TEACHER_CLASSES)).astype(np.float16),
        rng.uniform(0, 1, (n, N_TEACHER_FEATURES)).astype(np.float16),
    )


@pytest.fixture
def small_training(monkeypatch: pytest.MonkeyPatch, head_run: Run) -> Callable[..., Any]:
    """Train mini on tiny batches: `train(directory, n_steps, validate)`."""
    from recipes.mini import train
    from recipes.mini.alignment import load_frozen

    monkeypatch.setattr(train, "BATCH_SIZE", 8)
    monkeypatch.setattr(train, "PAIRS_PER_BATCH", 4)
    # Save the state after each step.
    monkeypatch.setattr(train, "_SAVE_SECONDS", -1.0)
    embeddings, seen = random_embeddings(20), random_views(20, seed=1)
    pairs = train.Pairs(seen.patches, embeddings, seen.logits)
    moments = train.Moments.of(random_embeddings())
    head = load_frozen(head_run.directory, embeddings, seen.logits.astype(np.float32))
    validate_every = 2

    def run(directory: Path, n_steps: int, validate: Callable[[Any], dict[str, float]]) -> Any:
        return train.train(
            random_views(), pairs, moments, [head], n_steps, 0, directory, validate, validate_every
        )

    return run


@pytest.mark.slow
def test_interrupted_training_is_resumed_exactly(
    small_training: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recipes.mini.network import build_mini

    initial = [weight.copy() for weight in build_mini().get_weights()]
    straight = small_training(tmp_path / "straight", 4, lambda model: {"figure": 1.0})

    def stop(model: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_training(tmp_path / "stopped", 4, stop)
    capsys.readouterr()
    resumed = small_training(tmp_path / "stopped", 4, lambda model: {"figure": 2.0})
    assert "resuming at step 2 of 4" in capsys.readouterr().out
    weights = straight.get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)
    assert len(weights) == len(initial)
    for one, other in zip(weights, resumed.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    rows = (tmp_path / "stopped" / "curves.csv").read_text().splitlines()
    assert rows == ["step,figure", "4,2.0"]


@pytest.mark.slow
def test_step_changes_the_network_but_not_the_frozen_head(
    small_training: Callable[..., Any], tmp_path: Path, head_run: Run
) -> None:
    before = read_arrays(head_run.best)[0]
    seen: list[list[np.ndarray]] = []

    def remember(model: Any) -> dict[str, float]:
        seen.append(model.get_weights())
        return {"figure": 0.0}

    small_training(tmp_path / "mini", 3, remember)
    assert len(seen) == 2  # after two steps, and at the end
    assert any(not np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    after = read_arrays(head_run.best)[0]
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_head_is_trained_on_both_kinds_of_clips(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    from recipes.mini import head

    monkeypatch.setattr(head, "N_RELEASED", 4)
    monkeypatch.setattr(head, "N_TEACHER", 4)
    rng = np.random.default_rng(0)

    def frames(n: int, length: int) -> np.ndarray:
        return rng.integers(0, 256, (n, length, EMBEDDING_SIZE)).astype(np.uint8)

    labels = np.zeros((12, N_CLASSES), np.bool_)
    labels[np.arange(12), np.arange(12) % 3] = True
    released = head.ReleasedClips(frames(12, 10), np.full(12, 10), labels)
    teacher_clips = head.TeacherClips(
        frames(10, 3),
        rng.integers(1, 4, 10),
        rng.uniform(0, 1, (10, 3, N_TEACHER_CLASSES)).astype(np.float16),
    )
    config = TrainingConfig(head="gru", settings={"units": 8})
    run = Run(tmp_path / "run")
    run.begin(config, {"sources": ["synthetic"]}, audioset_labels(), [])
    scores = []

    def validate(scorer: Any) -> dict[str, float]:
        scores.append(scorer.scores(released.frames[:2], released.n_frames[:2]))
        return {"figure": 0.5}

    head.train_head(config, released, released, teacher_clips, 2, run, validate, 1)
    assert run.is_finished
    assert 0 <= run.metrics()["mAP"] <= 1
    assert all(np.isfinite(weight).all() for weight in read_arrays(run.best)[0].values())
    assert len(scores) == 2
    assert not np.array_equal(scores[0], scores[1])


# --- Export ------------------------------------------------------------------------------


@pytest.mark.slow
def test_exported_networks_match_keras(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    from recipes.mini.export import in_float32, write_float32, write_int8
    from recipes.mini.network import build_mini

    tf_keras.utils.set_random_seed(0)
    model = in_float32(build_mini())
    patches = random_views(8).patches.astype(np.float32)
    write_float32(model, tmp_path / "mini.onnx", patches)
    write_int8(tmp_path / "mini.onnx", tmp_path / "int8.onnx", patches)
    expected = model.predict(patches, verbose=0)["embeddings"]
    exact, small = (
        Embedder(tmp_path / name, name="mini", weights_sha256="", device="cpu")(patches)
        for name in ("mini.onnx", "int8.onnx")
    )
    assert np.abs(exact - expected).max() <= 1e-4 * np.abs(expected).max()
    similarity = np.sum(small * exact) / np.linalg.norm(small) / np.linalg.norm(exact)
    assert similarity > 0.9
    size, small_size = ((tmp_path / n).stat().st_size for n in ("mini.onnx", "int8.onnx"))
    assert small_size < size / 3
    assert size <= 4 * 2**20
