from __future__ import annotations

import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vggish
from classifier import Bundle, Tagger
from classifier.bundles.calibration import Calibration
from classifier.tagger import choose_embedder
from classifier.tags.choice import Choice, top_indices
from classifier.tags.types import Tag
from tests.support.bundles import N_CLASSES, NAMES, make_bundle, make_labels, tiny_scores
from tests.support.sounds import make_sound
from vggish.audio.stream import open_audio
from vggish.errors import (
    AudioError,
    BundleError,
    EmptyAudioError,
    OptionError,
    WeightsNotInstalledError,
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundles") / "tiny")


@pytest.fixture
def frames(rng: np.random.Generator) -> Any:
    return rng.integers(0, 256, (4, 128), np.uint8)


def best_first(scores: Any) -> list[tuple[int, float]]:
    return sorted(enumerate(scores.tolist()), key=lambda pair: (-pair[1], pair[0]))


# --- Choosing tags -----------------------------------------------------------------------


def test_tags_are_sorted_with_ties_by_lower_index() -> None:
    scores = np.array([[0.5, 0.1, 0.9, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0, 0.0]], np.float32)
    assert top_indices(scores, 3).tolist() == [[2, 0, 3], [0, 1, 2]]
    assert top_indices(scores, None).shape == top_indices(scores, 99).shape == (2, 5)
    first, second = Choice(top_k=4, threshold=0.5).tags(scores, make_labels())
    assert first == (
        Tag(NAMES[2], "/m/2", 2, 0.9),  # not 0.8999999761581421
        Tag(NAMES[0], "/m/0", 0, 0.5),
        Tag(NAMES[3], "/m/3", 3, 0.5),
        Tag(NAMES[4], "/m/4", 4, 0.5),
    )
    assert second == ()
    assert Choice().tags(scores[:0], make_labels()) == []


def test_tag_score_round_trips_to_float32(rng: np.random.Generator) -> None:
    scores = np.concatenate([rng.random((50, 5)), 10.0 ** rng.uniform(-40, 0, (50, 5))])
    scores = scores.astype(np.float32)
    for row, tags in zip(scores, Choice(top_k=None).tags(scores, make_labels()), strict=True):
        assert [np.float32(tag.score) for tag in tags] == sorted(row, reverse=True)


# --- Frames ------------------------------------------------------------------------------


def test_frames_get_clip_tags_and_frame_scores(bundle: Bundle, frames: Any) -> None:
    tags = Tagger(bundle).tag_frames(frames, top_k=3)
    expected = best_first(tiny_scores([frames])[0])[:3]
    assert [tag.index for tag in tags.tags] == [index for index, _ in expected]
    np.testing.assert_allclose(
        [tag.score for tag in tags.tags], [score for _, score in expected], atol=1e-5
    )
    assert tags.frames is not None
    assert [frame.start_seconds for frame in tags.frames] == [0.0, 0.96, 1.92, 2.88]
    for frame, row in zip(tags.frames, frames, strict=True):
        of_frame = best_first(tiny_scores([row[None]])[0])[:3]
        assert [tag.index for tag in frame.tags] == [index for index, _ in of_frame]
    assert tags.scores.shape == (N_CLASSES,)
    assert tags.frame_scores is not None
    assert tags.frame_scores.shape == (4, N_CLASSES)
    assert tags.duration_seconds == 3.84


def test_threshold_drops_lower_scores(bundle: Bundle, frames: Any) -> None:
    everything = Tagger(bundle).tag_frames(frames, top_k=None)
    assert len(everything.tags) == N_CLASSES
    assert everything.frames is not None
    middle = everything.tags[2].score
    some = Tagger(bundle).tag_frames(frames, top_k=None, threshold=middle)
    assert some.tags == everything.tags[:3]
    assert some.frames is not None
    for few, all_tags in zip(some.frames, everything.frames, strict=True):
        assert few.tags == tuple(tag for tag in all_tags.tags if tag.score >= middle)


def test_label_filters_select_classes(bundle: Bundle, frames: Any) -> None:
    everything = Tagger(bundle).tag_frames(frames, top_k=None)
    some = Tagger(bundle).tag_frames(frames, top_k=None, labels=["bark", "/M/0"])
    others = Tagger(bundle).tag_frames(frames, top_k=None, exclude_labels=["Bark", "speech"])
    for found, indices in ((some, {0, 2}), (others, {1, 3, 4})):
        assert found.tags == tuple(tag for tag in everything.tags if tag.index in indices)
        assert found.frames is not None
        assert everything.frames is not None
        for few, all_tags in zip(found.frames, everything.frames, strict=True):
            assert few.tags == tuple(tag for tag in all_tags.tags if tag.index in indices)
        assert found.segments is not None
        assert {span.index for span in found.segments} == indices
        np.testing.assert_array_equal(found.scores, everything.scores)


def test_segments_give_the_times_of_each_tag(bundle: Bundle, frames: Any) -> None:
    tags = Tagger(bundle).tag_frames(frames, top_k=3)
    assert tags.segments is not None
    assert tags.frame_scores is not None
    best = [tag.index for tag in tags.tags]
    order = [(best.index(span.index), span.start_seconds) for span in tags.segments]
    assert order == sorted(order)
    for tag in tags.tags:
        spans = [span for span in tags.segments if span.index == tag.index]
        scores = tags.frame_scores[:, tag.index]
        for start, score in zip(tags.start_seconds, scores, strict=True):
            heard = any(span.start_seconds <= start < span.end_seconds for span in spans)
            assert heard == (score >= scores.max() / 2)
        assert {(span.label, span.mid) for span in spans} == {(tag.label, tag.mid)}
        assert max(np.float32(span.score) for span in spans) == scores.max()


def test_given_frame_times_are_used(bundle: Bundle, frames: Any) -> None:
    tags = Tagger(bundle).tag_frames(frames, start_seconds=[0, 1, 2, 3])
    assert tags.frames is not None
    assert [frame.start_seconds for frame in tags.frames] == [0, 1, 2, 3]
    assert tags.duration_seconds == 3.96


def test_head_without_frame_scores_gives_clip_tags_only(tmp_path: Path, frames: Any) -> None:
    tags = Tagger(make_bundle(tmp_path / "plain", of_frames=False)).tag_frames(frames)
    assert tags.frames is None
    assert tags.frame_scores is None
    assert tags.segments is None
    assert tags.as_json()["frames"] is None
    assert len(tags.tags) == N_CLASSES


def test_json_uses_the_common_field_names(bundle: Bundle, frames: Any) -> None:
    tags = Tagger(bundle).tag_frames(frames, top_k=2, embedder="vggish")
    answer = json.loads(json.dumps(tags.as_json(), allow_nan=False))
    assert list(answer) == [
        *("tags", "frames", "segments", "duration_seconds"),
        *("model", "embedder", "warnings", "timings"),
    ]
    assert list(answer["tags"][0]) == ["label", "mid", "index", "score"]
    assert answer["tags"][0]["label"] == tags.tags[0].label
    assert len(answer["frames"]) == 4
    assert list(answer["frames"][1]) == ["start_seconds", "tags"]
    assert [len(frame["tags"]) for frame in answer["frames"]] == [2] * 4
    assert list(answer["segments"][0]) == [
        *("start_seconds", "end_seconds", "label", "mid", "index", "score")
    ]
    assert answer["model"] == {"name": "tiny", "head": "mean", "sha256": bundle.sha256}
    assert answer["embedder"] == {"name": "vggish"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_k": 0}, "top_k must be at least 1. Received: 0"),
        ({"threshold": 1.5}, "threshold must be from 0 to 1. Received: 1.5"),
        ({"threshold": float("nan")}, "threshold must be from 0 to 1"),
        ({"labels": ["Barks"]}, "no class 'Barks'; did you mean 'Bark'"),
        ({"exclude_labels": ["Barks"]}, "no class 'Barks'; did you mean 'Bark'"),
        ({"start_seconds": [0, 1]}, "start_seconds must be 4 times"),
    ],
)
def test_invalid_options_are_rejected(
    bundle: Bundle, frames: Any, options: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Tagger(bundle).tag_frames(frames, **options)


def test_invalid_frames_are_rejected(bundle: Bundle) -> None:
    tagger = Tagger(bundle)
    for shape in ((0, 128), (2, 64), (1, 2, 128)):
        with pytest.raises(OptionError, match=r"\[n, 128\], n at least 1"):
            tagger.tag_frames(np.zeros(shape, np.uint8))
    with pytest.raises(OptionError, match="uint8"):
        tagger.tag_frames(np.zeros((2, 128), np.float32))


def test_frames_of_another_embedder_are_rejected(bundle: Bundle, frames: Any) -> None:
    with pytest.raises(BundleError, match="'mini'"):
        Tagger(bundle).tag_frames(frames, embedder="mini")
    forced = Tagger(bundle, force=True).tag_frames(frames, embedder="mini")
    assert forced.tags == Tagger(bundle).tag_frames(frames).tags


# --- Audio files -------------------------------------------------------------------------


@pytest.mark.usefixtures("small_home")
def test_audio_file_is_embedded_and_tagged(bundle: Bundle, write_sound: Any) -> None:
    path = write_sound("a.wav", seconds=5.0)
    tagger = Tagger(bundle)
    tags = tagger.tag(path, top_k=3)
    clip = vggish.embed(path)
    assert isinstance(clip.frames, np.ndarray)
    by_frames = tagger.tag_frames(np.asarray(clip.frames, np.uint8), top_k=3)
    assert tags.tags == by_frames.tags
    assert tags.frames == by_frames.frames
    assert tags.duration_seconds == 5.0
    assert tags.embedder == clip.metadata["embedder"]
    json.dumps(tags.as_json(), allow_nan=False)
    assert tagger.tag(io.BytesIO(path.read_bytes()), top_k=3).tags == tags.tags
    with open_audio(path) as stream:
        assert tagger.tag(stream, top_k=3) == tags


@pytest.mark.usefixtures("small_home")
def test_embedder_is_loaded_once_on_first_use(
    bundle: Bundle, write_sound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    started = threading.Barrier(4)
    load = vggish.api.load_extractor

    def counted(**options: Any) -> Any:
        loaded.append(1)
        return load(**options)

    monkeypatch.setattr("vggish.api.load_extractor", counted)
    tagger = Tagger(bundle)
    paths = [write_sound(f"{seed}.wav", seconds=2.0, seed=seed) for seed in range(4)]
    assert loaded == []

    def tag(path: Path) -> Any:
        started.wait(10)
        return tagger.tag(path).tags

    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(tag, paths))
    assert loaded == [1]
    assert together == [tagger.tag(path).tags for path in paths]


@pytest.mark.usefixtures("small_home")
def test_incompatible_extractor_is_rejected(tmp_path: Path) -> None:
    for_mini = make_bundle(tmp_path / "mini", embedders=["mini"])
    extractor = vggish.load_extractor()
    with pytest.raises(BundleError, match=r"'vggish'.*'mini'"):
        Tagger(for_mini, extractor)
    Tagger(for_mini, extractor, force=True)
    with pytest.raises(OptionError, match=r"values='uint8'. Received: 'raw'"):
        Tagger(for_mini, vggish.load_extractor(values="raw"))


@pytest.mark.usefixtures("small_home")
def test_audio_without_a_frame_is_rejected(bundle: Bundle, write_sound: Any) -> None:
    path = write_sound("short.wav", seconds=0.5)
    assert Tagger(bundle).tag(path).tags
    dropping = Tagger(bundle, vggish.load_extractor(tail="drop"))
    with pytest.raises(EmptyAudioError, match=r"short\.wav is too short.*0\.5 s.*--tail pad"):
        dropping.tag(path)


def test_tagging_errors_are_reported(
    bundle: Bundle, small_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tagger = Tagger(bundle)
    with pytest.raises(OptionError, match="top_k"):
        tagger.tag(tmp_path / "absent.wav", top_k=0)
    with pytest.raises(AudioError):
        tagger.tag(tmp_path / "absent.wav")
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "empty"))
    with pytest.raises(WeightsNotInstalledError, match="audiotag weights fetch"):
        Tagger(bundle).tag(tmp_path / "absent.wav")


# --- Waveforms in memory -----------------------------------------------------------------


@pytest.mark.usefixtures("small_home")
@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100])
def test_waveform_and_file_give_the_same_tags(bundle: Bundle, tmp_path: Path, rate_hz: int) -> None:
    import soundfile

    waveform = np.stack([make_sound(4.0, rate_hz), make_sound(4.0, rate_hz, seed=3)], axis=1)
    soundfile.write(tmp_path / "a.wav", waveform, rate_hz, subtype="FLOAT")
    tagger = Tagger(bundle)
    tags = tagger.tag(tmp_path / "a.wav")
    for samples in (waveform, waveform.astype(np.float64), np.asfortranarray(waveform)):
        found = tagger.tag(samples, sample_rate=rate_hz)
        assert found.tags == tags.tags
        assert found.duration_seconds == tags.duration_seconds == 4.0
    mono = np.ascontiguousarray(waveform[:, 0])
    assert tagger.tag(mono, sample_rate=rate_hz).tags == tagger.tag(
        mono[:, None], sample_rate=np.float64(rate_hz)
    ).tags  # fmt: skip


@pytest.mark.usefixtures("small_home")
def test_integer_waveform_is_scaled(bundle: Bundle) -> None:
    tagger = Tagger(bundle)
    waveform = make_sound(3.0)
    expected = tagger.tag(waveform, sample_rate=16_000).scores
    for dtype, scale in ((np.int16, 2**15), (np.int32, 2**31)):
        samples = np.round(waveform.astype(float) * scale).astype(dtype)
        found = tagger.tag(samples, sample_rate=16_000).scores
        np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.usefixtures("small_home")
def test_waveform_gives_the_same_warnings_as_a_file(bundle: Bundle) -> None:
    tagger = Tagger(bundle)
    waveform = make_sound(2.0)
    waveform[100:103] = np.nan
    assert tagger.tag(waveform, sample_rate=16_000).warnings == (
        "3 samples are NaN or infinite; taken as 0",
    )
    silent = tagger.tag(np.zeros(16_000, np.int16), sample_rate=16_000)
    assert silent.is_silent
    assert len(silent.warnings) == 1
    assert not tagger.tag(make_sound(1.0) * 0.01, sample_rate=16_000).is_silent
    with pytest.raises(EmptyAudioError, match="the waveform holds no audio: 0 samples"):
        tagger.tag(np.zeros(0, np.float32), sample_rate=16_000)


@pytest.mark.parametrize(
    ("waveform", "rate", "message"),
    [
        (np.zeros(9, np.float32), None, "needs its sample_rate"),
        (np.zeros(9, np.float32), 44.1, r"1 to 1000000 Hz. Received: 44\.1 \(kHz\?\)"),
        (np.zeros(9, np.float32), 16_000.5, "whole number"),
        (np.zeros(9, np.float32), 2_000_000, "1 to 1000000"),
        (np.zeros(9, np.float32), float("nan"), "whole number"),
        (np.zeros(9, np.uint8), 16_000, "float in .*int16 or int32. Received: uint8"),
        (np.zeros(9, np.int64), 16_000, "Received: int64"),
        (np.zeros(9, complex), 16_000, "Received: complex128"),
        (np.zeros((2, 3, 4)), 16_000, r"\[n, channels\]. Received: \[2, 3, 4\]"),
        (np.zeros((2, 16_000)), 16_000, r"pass waveform\.T"),
        (np.float32(1), 16_000, "Received"),
    ],
)
@pytest.mark.usefixtures("small_home")
def test_invalid_waveform_is_rejected(
    bundle: Bundle, waveform: Any, rate: Any, message: str
) -> None:
    with pytest.raises(OptionError, match=message):
        Tagger(bundle).tag(np.asarray(waveform), sample_rate=rate)


def test_sample_rate_of_a_file_cannot_be_overridden(bundle: Bundle) -> None:
    with pytest.raises(OptionError, match="has a sample rate of its own"):
        Tagger(bundle).tag("a.wav", sample_rate=16_000)


@pytest.mark.usefixtures("small_home")
def test_tagger_is_thread_safe(bundle: Bundle) -> None:
    tagger = Tagger.load(bundle.directory)
    sounds = [make_sound(1.0 + seed, seed=seed) for seed in range(12)]
    alone = [tagger.tag(sound, sample_rate=16_000) for sound in sounds]
    with ThreadPoolExecutor(6) as pool:
        together = list(pool.map(lambda sound: tagger.tag(sound, sample_rate=16_000), sounds))
    for one, other in zip(together, alone, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)


# --- Long clips --------------------------------------------------------------------------


def test_short_clip_is_scored_as_one_window(bundle: Bundle, rng: np.random.Generator) -> None:
    for n in (1, 9, 10):
        frames = rng.integers(0, 256, (n, 128), np.uint8)
        tags = Tagger(bundle).tag_frames(frames)
        whole = bundle.clip_and_frame_scores(frames[None], [n])
        np.testing.assert_array_equal(tags.scores, whole[0][0])
        assert whole[1] is not None
        np.testing.assert_array_equal(tags.frame_scores, whole[1][0])


def test_long_clip_gets_its_maximum_window_score(bundle: Bundle, rng: np.random.Generator) -> None:
    frames = rng.integers(0, 256, (47, 128), np.uint8)
    tags = Tagger(bundle).tag_frames(frames)
    starts = [0, 5, 9, 14, 19, 23, 28, 32, 37]
    windows = tiny_scores([frames[start : start + 10] for start in starts])
    np.testing.assert_allclose(tags.scores, windows.max(0), atol=1e-5)
    # The tiny head scores each frame independently.
    assert tags.frame_scores is not None
    each = tiny_scores([frame[None] for frame in frames])
    np.testing.assert_allclose(tags.frame_scores, each, atol=1e-5)


def test_short_event_in_an_hour_is_detected(tmp_path: Path, rng: np.random.Generator) -> None:
    """Test an event at the start, in the middle and at the end of the clip."""
    bundle = make_bundle(tmp_path / "five", clip_frames=5)
    assert bundle.clip_frames == 5
    quiet = np.full((3750, 128), 127, np.uint8)
    event = rng.integers(0, 256, (5, 128), np.uint8)
    expected = tiny_scores([event])[0]
    for place in (0, 2500, 3745):
        frames = quiet.copy()
        frames[place : place + 5] = event
        scores = Tagger(bundle).tag_frames(frames).scores
        assert (scores >= tiny_scores([quiet[:5]])[0] - 1e-5).all()
        if place != 2500:  # the first and the last window match the event exactly
            assert (scores >= expected - 1e-5).all()


def test_head_without_frame_scores_accepts_long_clips(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    bundle = make_bundle(tmp_path / "plain", of_frames=False)
    frames = rng.integers(0, 256, (25, 128), np.uint8)
    tags = Tagger(bundle).tag_frames(frames)
    windows = tiny_scores([frames[start : start + 10] for start in (0, 5, 10, 15)])
    np.testing.assert_allclose(tags.scores, windows.max(0), atol=1e-5)
    assert tags.frame_scores is None


# --- Choosing the embedder ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("made_for", "asked", "force", "chosen"),
    [
        (["vggish"], "auto", False, "vggish"),
        (["mini"], "auto", False, "mini"),
        (["vggish", "mini"], "auto", False, "auto"),
        (["vggish", "mini"], "mini", False, "mini"),
        (["vggish"], "mini", True, "mini"),
        (["vggish"], "auto", True, "auto"),
    ],
)
def test_embedder_matches_the_bundle(
    tmp_path: Path, made_for: list[str], asked: Any, force: bool, chosen: str
) -> None:
    bundle = make_bundle(tmp_path / "b", embedders=made_for)
    assert choose_embedder(bundle, asked, force=force) == chosen


def test_embedder_not_supported_by_the_bundle_is_rejected(tmp_path: Path) -> None:
    for_mini = make_bundle(tmp_path / "m", embedders=["mini"])
    with pytest.raises(BundleError, match=r"'vggish'.*'mini'[\s\S]*--force"):
        Tagger.load(for_mini.directory, embedder="vggish")
    other = make_bundle(tmp_path / "o", embedders=["wavegram"])
    with pytest.raises(BundleError, match=r"'wavegram'.*the embedders of this version are"):
        Tagger.load(other.directory)
    with pytest.raises(OptionError, match=r"embedder must be one of .*'mini'"):
        Tagger.load(other.directory, embedder="yamnet")  # type: ignore[arg-type]


def test_missing_embedder_error_suggests_the_fix(tmp_path: Path) -> None:
    """No weights are installed: AUDIOTAG_HOME is empty."""
    bundle = make_bundle(tmp_path / "v")
    message = r"'tiny' is for frames of 'vggish' only[\s\S]*weights fetch[\s\S]*--model audioset"
    with pytest.raises(WeightsNotInstalledError, match=message):
        Tagger.load(bundle.directory)


@pytest.mark.usefixtures("small_mini")
def test_mini_is_used_if_vggish_is_missing_or_unsupported(
    tmp_path: Path, small_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores use the calibration of the chosen embedder."""
    calibration = {"mini": Calibration(0.5, 1.0).as_json()}
    both = make_bundle(tmp_path / "b", embedders=["vggish", "mini"], calibration=calibration)
    for_mini = make_bundle(tmp_path / "m", embedders=["mini"])
    sound = make_sound(3.0)

    def tagged(bundle: Bundle, embedder: Any = "auto") -> Any:
        tagger = Tagger.load(bundle.directory, embedder=embedder)
        return tagger.tag(sound, sample_rate=16_000)

    assert tagged(both).embedder["name"] == "vggish"
    assert tagged(for_mini).embedder["name"] == "mini"
    raw = tagged(for_mini).scores
    np.testing.assert_allclose(tagged(both, "mini").scores, Calibration(0.5, 1.0)(raw), atol=1e-6)
    monkeypatch.setenv("AUDIOTAG_HOME", str(tmp_path / "empty"))
    assert tagged(both).embedder["name"] == "mini"
    assert Tagger(both).tag(sound, sample_rate=16_000).embedder["name"] == "mini"


# --- Calibration -------------------------------------------------------------------------


def test_scores_are_calibrated_per_embedder(tmp_path: Path, frames: Any) -> None:
    cards = {"vggish": Calibration(2.0, -1.0), "mini": Calibration(0.5, 0.25)}
    plain = make_bundle(tmp_path / "plain", embedders=["vggish", "mini", "other"])
    bundle = make_bundle(
        tmp_path / "b",
        embedders=["vggish", "mini", "other"],
        calibration={name: value.as_json() for name, value in cards.items()},
    )
    raw = Tagger(plain).tag_frames(frames)
    assert raw.frame_scores is not None
    for embedder, calibration in (
        ("", cards["vggish"]), ("vggish", cards["vggish"]), ("mini", cards["mini"]),
        ("other", Calibration()),
    ):  # fmt: skip
        tags = Tagger(bundle).tag_frames(frames, embedder=embedder)
        np.testing.assert_allclose(tags.scores, calibration(raw.scores), rtol=1e-6)
        np.testing.assert_allclose(tags.frame_scores, calibration(raw.frame_scores), rtol=1e-6)


@pytest.mark.parametrize(
    "card",
    [{"calibration": {"vggish": {"scale": 0, "offset": 1}}}, {"calibration": ["vggish"]},
     {"clip_frames": 0}, {"clip_frames": "10"}, {"clip_frames": True}],
)  # fmt: skip
def test_invalid_card_is_rejected(tmp_path: Path, card: Any) -> None:
    with pytest.raises(BundleError, match=rf"bundle\.json: '{next(iter(card))}'"):
        make_bundle(tmp_path / "b", **card)
