"""The recipe of the built-in embedder, on sounds and networks that the tests make."""

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
from recipes.mini.pairs import cut_pairs
from recipes.mini.sounds import (
    PAIRS,
    TEST_FOLD,
    Bank,
    Sound,
    draw_weights,
    load_bank,
    parts,
    read_index,
)
from recipes.mini.teacher import N_TEACHER_CLASSES, N_TEACHER_FEATURES, Teacher, teacher_classes
from recipes.mini.views import Studio, Views, load_views, look, make_views, whole_patches
from recipes.mini.zero_shot import esc50_names, urbansound8k_names, zero_shot
from vggish.errors import AudioError
from vggish.mel_features import log_mel_patches, n_patches
from vggish.network.runtime import Embedder
from vggish.params import EMBEDDING_SIZE, N_BANDS, PATCH_FRAMES, PATCH_SAMPLES, SAMPLE_RATE_HZ
from vggish.postprocess import dequantize

HOP_SAMPLES = 15_360
N_CLASSES = len(audioset_labels())


class FakeTeacher:
    """What the real one is to the recipe: its word depends on the window alone."""

    def __init__(self, path: Path | None = None) -> None:
        self.windows: list[np.ndarray] = []

    def __call__(self, window: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert window.shape == (PATCH_SAMPLES,)
        self.windows.append(window)
        loudness = float(np.sqrt(np.mean(np.square(window))))
        logits = np.linspace(-6, 2, N_TEACHER_CLASSES, dtype=np.float32) + loudness
        return logits, np.full(N_TEACHER_FEATURES, loudness, np.float32)


def sound(
    path: str, source: str, *, label: str = "x", extra: str = "", seconds: float = 5
) -> Sound:
    return Sound(Path(path), source, label, seconds, extra)


def bank_of(*waveforms: np.ndarray) -> Bank:
    samples = [np.round(waveform * 32767).astype(np.int16) for waveform in waveforms]
    return Bank(np.concatenate(samples), np.cumsum([0, *map(len, samples)]))


def noise(seconds: float, seed: int = 0, level: float = 0.1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return level * rng.uniform(-1, 1, round(seconds * SAMPLE_RATE_HZ)).astype(np.float32)


def studio_of(*waveforms: np.ndarray) -> Studio:
    n = len(waveforms)
    return Studio(bank_of(*waveforms), np.arange(n), np.full(n, 1 / n), Path("none"), 0)


@pytest.fixture
def unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views are parts of sounds at another level, and nothing else."""
    for name in ("_MIXED", "_SPED", "_EQUALISED", "_NOISY"):
        monkeypatch.setattr(views, name, 0.0)


# --- Which sounds are kept out -----------------------------------------------------------


def many_sounds() -> list[Sound]:
    """Two collections that share some recordings, pairs, and others."""
    esc50 = [
        sound(f"{fold}-{recording}-{take}-0.opus", "esc50", extra=f"fold={fold};esc10=False")
        for recording in range(1000, 1400)
        for fold in (recording % 4 + 1,)
        for take in "AB"
    ]
    urban = [
        sound(f"{recording}-3-0-{part}.opus", "urbansound8k")
        for recording in range(1300, 1800)
        for part in range(2)
    ]
    pairs = [sound(f"video{number}.opus", PAIRS) for number in range(500)]
    return [*esc50, *urban, *pairs, *(sound(f"{n}.opus", "other") for n in range(300))]


def test_recordings_stay_together_across_collections() -> None:
    sounds = many_sounds()
    parts_of_recording = defaultdict(set)
    for one, part in zip(sounds, parts(sounds), strict=True):
        parts_of_recording[one.recording].add(part)
    assert {len(found) for found in parts_of_recording.values()} == {1}
    shared = [one for one in sounds if one.source == "urbansound8k" and "1303-" in one.path.name]
    assert {one.recording for one in shared} == {"freesound 1303"}


def test_what_measures_is_never_learnt_from() -> None:
    sounds = many_sounds()
    part_of = dict(zip(sounds, parts(sounds), strict=True))
    folds = {one: one.fold for one in sounds if one.source == "esc50"}
    assert {part_of[one] for one, fold in folds.items() if fold == TEST_FOLD} == {"test"}
    # A recording of fold 4 is kept out in UrbanSound8K too.
    test_recordings = {one.recording for one, fold in folds.items() if fold == TEST_FOLD}
    of_both = [s for s in sounds if s.source == "urbansound8k" and s.recording in test_recordings]
    assert of_both
    assert {part_of[one] for one in of_both} == {"test"}
    assert {part_of[one] for one in sounds if one.source == "other"} == {"train", "validation"}


def test_about_a_tenth_of_pairs_and_recordings_is_kept_out() -> None:
    sounds = many_sounds()
    found = list(zip(sounds, parts(sounds), strict=True))
    for source in (PAIRS, "urbansound8k"):
        ours = {
            one.recording: part
            for one, part in found
            if one.source == source and (source == PAIRS or int(one.path.name[:4]) >= 1400)
        }
        share = sum(part == "test" for part in ours.values()) / len(ours)
        assert 0.05 < share < 0.15


def test_parts_do_not_depend_on_the_order_or_on_other_sounds() -> None:
    sounds = many_sounds()
    in_order = dict(zip(sounds, parts(sounds), strict=True))
    assert dict(zip(sounds[::-1], parts(sounds[::-1]), strict=True)) == in_order
    pairs = [one for one in sounds if one.source == PAIRS]
    assert parts(pairs) == [in_order[one] for one in pairs]


def test_long_sounds_and_small_collections_are_drawn_more_often() -> None:
    many = [sound(f"{n}.opus", "many", seconds=4) for n in range(80)]
    others = [sound("a.opus", "few", seconds=4), sound("b.opus", "long", seconds=100)]
    weights = draw_weights([*many, *others])
    assert weights.sum() == pytest.approx(1)
    assert weights[80] == pytest.approx(2 * weights[0])
    assert weights[81] == pytest.approx(math.sqrt(2.5) * weights[80])


@pytest.fixture
def sounds_directory(tmp_path: Path, write_sound: Callable[..., Path]) -> Path:
    rows = [["path", "source", "label", "seconds", "extra"]]
    for number, fold in enumerate((4, 1, 2)):
        name = f"audio/{fold}-{number}-A-0.wav"
        write_sound(name, seconds=1.5, seed=number)
        rows.append([name.removeprefix("audio/"), "esc50", "dog", "1.5", f"fold={fold}"])
    with open(tmp_path / "audio" / "index.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return tmp_path / "audio"


def test_an_index_is_read_in_the_order_of_its_paths(sounds_directory: Path) -> None:
    sounds = read_index(sounds_directory)
    assert [one.fold for one in sounds] == [1, 2, 4]
    assert [one.clip_id for one in sounds] == ["1-1-A-0", "2-2-A-0", "4-0-A-0"]
    assert all(one.path.is_file() and one.seconds == 1.5 for one in sounds)


def test_a_bank_holds_all_waveforms_and_is_decoded_once(
    sounds_directory: Path, tmp_path: Path
) -> None:
    import soundfile

    sounds = read_index(sounds_directory)
    bank = load_bank(sounds, tmp_path / "bank.npz")
    for index, one in enumerate(sounds):
        expected, _ = soundfile.read(one.path)
        assert np.abs(bank.waveform(index) - expected).max() <= 1 / 32768
    for one in sounds:
        one.path.unlink()
    again = load_bank(sounds, tmp_path / "bank.npz")
    assert np.array_equal(again.samples, bank.samples)
    with pytest.raises(AudioError, match="another index"):
        load_bank(sounds[1:], tmp_path / "bank.npz")


# --- Naming sounds -----------------------------------------------------------------------


def test_tables_of_names_hold_classes_that_audioset_has() -> None:
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


def test_a_class_scores_what_the_best_of_its_names_scores() -> None:
    names = esc50_names()
    scores = np.zeros((3, N_CLASSES))
    scores[0, names["dog"][1]] = 0.9  # right
    scores[1, names["cat"][0]] = 0.2  # third, behind two others
    scores[1, names["rain"][0]], scores[1, names["cow"][0]] = 0.4, 0.3
    scores[2] = 0.5  # behind six others
    scores[2, names["siren"]] = 0.1
    assert zero_shot(scores, ["dog", "cat", "siren"]) == (1 / 3, 2 / 3)


def test_classes_without_a_name_do_not_count() -> None:
    scores = np.full((1, N_CLASSES), 0.9)
    scores[0, esc50_names()["dog"]] = 0.95
    scores[0, audioset_labels().index_of("Speech")] = 1.0
    assert zero_shot(scores, ["dog"]) == (1.0, 1.0)


def test_the_teacher_knows_521_of_the_classes() -> None:
    classes = teacher_classes()
    assert len(classes) == N_TEACHER_CLASSES
    missing = set(range(N_CLASSES)) - set(classes.tolist())
    assert "Battle cry" in [audioset_labels().names[index] for index in missing]


def test_the_real_teacher_says_what_its_own_scores_say(shared_data: Path) -> None:
    """Its logits and features are inner tensors, found by name and shape."""
    found = sorted((shared_data / "yamnet").glob("*.tflite"))
    if not found:
        pytest.skip("needs YAMNet, which is not there")
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
    said = 1 / (1 + np.exp(-np.maximum(logits, -50)))
    assert np.abs(said - scores).max() < 0.01


# --- Views -------------------------------------------------------------------------------


@pytest.mark.parametrize("n_patches_a_view", [1, 3])
def test_views_are_drawn_from_a_seed(n_patches_a_view: int) -> None:
    studio = studio_of(noise(5, 1), noise(4, 2), noise(0.3, 3))

    def some(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [studio.view(rng, n_patches_a_view) for _ in range(20)]

    first, second, other = some(7), some(7), some(8)
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))


def test_views_are_whole_patches_within_full_scale() -> None:
    studio = studio_of(noise(8, 1, level=1.0), noise(2.1, 2, level=1.0))
    rng = np.random.default_rng(0)
    lengths = set()
    for _ in range(60):
        view = studio.view(rng, 4)
        assert view.dtype == np.float32
        assert np.abs(view).max() <= 1
        assert (len(view) - PATCH_SAMPLES) % HOP_SAMPLES == 0
        lengths.add((len(view) - PATCH_SAMPLES) // HOP_SAMPLES + 1)
    # As many as asked for, or as the shorter sound has at its speed.
    assert lengths == {2, 3, 4} or lengths == {2, 4}


@pytest.mark.usefixtures("unchanged")
def test_a_short_sound_is_completed_with_silence() -> None:
    short = noise(0.3)
    view = studio_of(short).view(np.random.default_rng(0), 5)
    assert view.shape == (PATCH_SAMPLES,)
    assert np.abs(view[: len(short)]).max() > 0
    assert not view[len(short) :].any()


@pytest.mark.usefixtures("unchanged")
def test_a_view_is_a_part_of_its_sound_at_another_level() -> None:
    original = noise(3)
    view = studio_of(original).view(np.random.default_rng(1), 2)
    windows = np.lib.stride_tricks.sliding_window_view(original, len(view))
    products = windows @ view
    similarity = products / np.linalg.norm(windows, axis=1) / np.linalg.norm(view)
    assert similarity.max() == pytest.approx(1, abs=1e-3)


def test_the_louder_of_two_places_is_taken() -> None:
    """Most of this sound is silence; most views are not."""
    mostly_silent = np.concatenate([np.zeros(8 * SAMPLE_RATE_HZ, np.float32), noise(2)])
    studio = studio_of(mostly_silent)
    rng = np.random.default_rng(0)
    silent = [not studio._window(rng, 1).any() for _ in range(300)]
    share = 7 / 9  # of the places, about
    assert np.mean(silent) == pytest.approx(share**2, abs=0.1)


def test_patches_of_a_sequence_are_those_of_its_waveform() -> None:
    waveforms = [noise(0.975, 1), noise((2 * HOP_SAMPLES + PATCH_SAMPLES) / SAMPLE_RATE_HZ, 2)]
    teacher = FakeTeacher()
    found = look(waveforms, teacher)  # type: ignore[arg-type]
    assert found.lengths.tolist() == [1, 3]
    windows = [waveforms[0], *(waveforms[1][i * HOP_SAMPLES :][:PATCH_SAMPLES] for i in range(3))]
    for patch, window, heard in zip(found.patches, windows, teacher.windows, strict=True):
        assert np.array_equal(heard, window)
        alone = log_mel_patches(window, tail="drop")
        assert np.abs(patch - alone[0]).max() < 0.01
    expected = [teacher(window)[1][0] for window in windows]
    assert found.features[:, 0] == pytest.approx(expected, rel=1e-3)
    assert found.logits.shape == (4, N_TEACHER_CLASSES)


@pytest.mark.parametrize("n_samples", [1, 7_000, 15_600, 16_000, 23_040, 80_000])
def test_a_whole_sound_has_the_patches_that_embed_takes(n_samples: int) -> None:
    waveform = noise(5)[:n_samples]
    completed = whole_patches(waveform)
    found = look([completed], FakeTeacher())  # type: ignore[arg-type]
    assert found.lengths.tolist() == [n_patches(n_samples)]
    assert np.abs(found.patches - log_mel_patches(waveform)).max() < 0.01


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # it has threads, and forks
def test_files_of_views_do_not_depend_on_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "Teacher", FakeTeacher)
    monkeypatch.setattr(views, "_PATCHES_A_FILE", 4)
    studio = studio_of(noise(5, 1), noise(4, 2))
    files = make_views(studio, 10, 2, tmp_path, n_processes=1)
    assert [path.name for path in files] == [f"views-{n:04}.npz" for n in range(3)]
    loaded = load_views(files)
    assert loaded.lengths.tolist() == [2] * 6
    assert len(loaded.patches) == len(loaded.logits) == len(loaded.features) == 12
    with np.load(files[0]) as kept:
        before = kept["patches"]
    files[1].unlink()
    times = {path: path.stat().st_mtime_ns for path in (files[0], files[2])}
    make_views(studio, 10, 2, tmp_path, n_processes=1)
    assert {path: path.stat().st_mtime_ns for path in times} == times
    again = load_views(files)
    assert np.array_equal(again.patches, loaded.patches)
    assert not np.array_equal(again.patches[4:8], before)


# --- Pairs -------------------------------------------------------------------------------


def test_pairs_are_cut_at_their_seconds() -> None:
    waveform = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    frames = np.arange(10, dtype=np.uint8).repeat(EMBEDDING_SIZE).reshape(10, -1)
    found = list(cut_pairs(waveform, frames))
    assert [window[0] for window, _ in found] == [k * SAMPLE_RATE_HZ for k in range(10)]
    assert {len(window) for window, _ in found} == {PATCH_SAMPLES}
    assert np.array_equal(np.stack([embedding for _, embedding in found]), dequantize(frames))


def test_pairs_beyond_the_sound_are_left_out() -> None:
    waveform = np.arange(10 * SAMPLE_RATE_HZ, dtype=np.float32)
    frames = np.zeros((12, EMBEDDING_SIZE), np.uint8)
    starts = [window[0] for window, _ in cut_pairs(waveform, frames, (-0.06, 0.0, 0.06))]
    assert starts[:3] == [0, 960, 15_040]  # the first begins too early
    assert starts[-1] == 9 * SAMPLE_RATE_HZ  # and the last ends too late
    assert len(starts) == 28


# --- Alignment ---------------------------------------------------------------------------


@pytest.fixture
def head_run(tmp_path: Path) -> Run:
    """A run of the smallest head, with weights that are drawn."""
    pytest.importorskip("tensorflow")
    from classifier.heads.build import build_head
    from classifier.training.transfer import weights_of

    config = TrainingConfig(head="logistic")
    run = Run(tmp_path / "runs" / "logistic")
    run.begin(config, {"sources": ["made"]}, audioset_labels(), [])
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


def drawn_embeddings(n: int = 300) -> np.ndarray:
    return np.random.default_rng(6).normal(size=(n, EMBEDDING_SIZE)).clip(-2, 2).astype(np.float32)


def test_calibration_gives_the_mean_of_the_head(head_run: Run) -> None:
    from recipes.mini.alignment import load_frozen

    embeddings = drawn_embeddings()
    said = np.random.default_rng(7).normal(-3, 2, (300, N_TEACHER_CLASSES)).astype(np.float32)
    head = load_frozen(head_run.directory, embeddings, said)
    own, targets = head.logits(embeddings).numpy(), head.targets(said).numpy()
    assert head.name == "logistic"
    assert own.shape == targets.shape == (300, N_TEACHER_CLASSES)
    assert targets.mean(axis=0) == pytest.approx(own.mean(axis=0), abs=1e-3)
    # Half of a class's slope is its own, half the median of all.
    ratio = own.std(axis=0) / said.std(axis=0)
    expected = (ratio + np.median(ratio)) / 2 * said.std(axis=0)
    assert targets.std(axis=0) == pytest.approx(expected, rel=1e-3)


def test_a_teacher_with_another_scale_and_offset_is_understood(head_run: Run) -> None:
    from recipes.mini.alignment import load_frozen

    embeddings = drawn_embeddings()
    some = np.zeros((300, N_TEACHER_CLASSES), np.float32)
    own = load_frozen(head_run.directory, embeddings, some).logits(embeddings).numpy()
    offsets = np.linspace(-2, 2, N_TEACHER_CLASSES, dtype=np.float32)
    head = load_frozen(head_run.directory, embeddings, 1.5 * own + offsets)
    assert head.targets(1.5 * own + offsets).numpy() == pytest.approx(own, abs=1e-3)


def test_a_frozen_head_reads_an_embedding_as_its_code(head_run: Run) -> None:
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


def made_views(n: int = 40, seed: int = 0) -> Views:
    rng = np.random.default_rng(seed)
    return Views(
        np.ones(n, np.int64),
        rng.normal(-2, 2, (n, PATCH_FRAMES, N_BANDS)).astype(np.float16),
        rng.normal(-4, 2, (n, N_TEACHER_CLASSES)).astype(np.float16),
        rng.uniform(0, 1, (n, N_TEACHER_FEATURES)).astype(np.float16),
    )


@pytest.fixture
def small_training(monkeypatch: pytest.MonkeyPatch, head_run: Run) -> Callable[..., Any]:
    """Train mini on next to nothing: `train(directory, n_steps, validate)`."""
    from recipes.mini import train
    from recipes.mini.alignment import load_frozen

    monkeypatch.setattr(train, "BATCH_SIZE", 8)
    monkeypatch.setattr(train, "PAIRS_A_BATCH", 4)
    # The state is written after each step.
    monkeypatch.setattr(train, "_SAVE_SECONDS", -1.0)
    embeddings, seen = drawn_embeddings(20), made_views(20, seed=1)
    pairs = train.Pairs(seen.patches, embeddings, seen.logits)
    moments = train.Moments.of(drawn_embeddings())
    head = load_frozen(head_run.directory, embeddings, seen.logits.astype(np.float32))
    validate_every = 2

    def run(directory: Path, n_steps: int, validate: Callable[[Any], dict[str, float]]) -> Any:
        return train.train(
            made_views(), pairs, moments, [head], n_steps, 0, directory, validate, validate_every
        )

    return run


@pytest.mark.slow
def test_training_that_was_stopped_goes_on_as_if_it_never_was(
    small_training: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from recipes.mini.network import build_mini

    begun = [weight.copy() for weight in build_mini().get_weights()]
    straight = small_training(tmp_path / "straight", 4, lambda model: {"figure": 1.0})

    def stop(model: Any) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        small_training(tmp_path / "stopped", 4, stop)
    capsys.readouterr()
    resumed = small_training(tmp_path / "stopped", 4, lambda model: {"figure": 2.0})
    assert "going on at step 2 of 4" in capsys.readouterr().out
    weights = straight.get_weights()
    assert all(np.isfinite(weight).all() for weight in weights)
    assert len(weights) == len(begun)
    for one, other in zip(weights, resumed.get_weights(), strict=True):
        assert np.allclose(one, other, atol=1e-5)
    rows = (tmp_path / "stopped" / "curves.csv").read_text().splitlines()
    assert rows == ["step,figure", "4,2.0"]


@pytest.mark.slow
def test_a_step_changes_the_network_and_leaves_the_frozen_head(
    small_training: Callable[..., Any], tmp_path: Path, head_run: Run
) -> None:
    before = read_arrays(head_run.best)[0]
    seen: list[list[np.ndarray]] = []

    def remember(model: Any) -> dict[str, float]:
        seen.append(model.get_weights())
        return {"figure": 0.0}

    small_training(tmp_path / "mini", 3, remember)
    assert len(seen) == 2  # in the middle, and at the end
    assert any(not np.array_equal(a, b) for a, b in zip(*seen, strict=True))
    after = read_arrays(head_run.best)[0]
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.slow
def test_the_head_learns_from_both_kinds_of_clips(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("tensorflow")
    from recipes.mini import head

    monkeypatch.setattr(head, "_REAL", 4)
    monkeypatch.setattr(head, "_TAUGHT", 4)
    rng = np.random.default_rng(0)

    def frames(n: int, length: int) -> np.ndarray:
        return rng.integers(0, 256, (n, length, EMBEDDING_SIZE)).astype(np.uint8)

    labels = np.zeros((12, N_CLASSES), np.bool_)
    labels[np.arange(12), np.arange(12) % 3] = True
    real = head.RealClips(frames(12, 10), np.full(12, 10), labels)
    taught = head.TaughtClips(
        frames(10, 3),
        rng.integers(1, 4, 10),
        rng.uniform(0, 1, (10, 3, N_TEACHER_CLASSES)).astype(np.float16),
    )
    config = TrainingConfig(head="gru", settings={"units": 8})
    run = Run(tmp_path / "run")
    run.begin(config, {"sources": ["made"]}, audioset_labels(), [])
    asked = []

    def validate(scorer: Any) -> dict[str, float]:
        asked.append(scorer.scores(real.frames[:2], real.n_frames[:2]))
        return {"figure": 0.5}

    head.train_head(config, real, real, taught, 2, run, validate, 1)
    assert run.is_finished
    assert 0 <= run.metrics()["mAP"] <= 1
    assert all(np.isfinite(weight).all() for weight in read_arrays(run.best)[0].values())
    assert len(asked) == 2
    assert not np.array_equal(asked[0], asked[1])


# --- Export ------------------------------------------------------------------------------


@pytest.mark.slow
def test_exported_networks_give_what_keras_gives(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    from recipes.mini.export import in_float32, write_float32, write_int8
    from recipes.mini.network import build_mini

    tf_keras.utils.set_random_seed(0)
    model = in_float32(build_mini())
    patches = made_views(8).patches.astype(np.float32)
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
