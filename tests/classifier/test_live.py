"""Live tagging: the same frames as for the whole audio, with the least possible delay."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from classifier.bundles.bundle import Bundle
from classifier.live import LiveTagger
from classifier.tagger import Tagger
from classifier.tags.types import LiveTags
from tests.support.sounds import make_sound
from vggish.audio.stream import open_waveform
from vggish.errors import OptionError


@pytest.fixture(scope="module")
def tagger() -> Tagger:
    return Tagger.load(embedder="mini")


def live_tags(tagger: Tagger, sound: np.ndarray, rate_hz: int, sizes: Any) -> list[LiveTags]:
    live = LiveTagger(tagger, rate_hz)
    found, start = [], 0
    while start < len(sound):
        size = int(next(sizes))
        found += live.feed(sound[start : start + size])
        start += size
    return [*found, *live.finish()]


def constant(size: int) -> Any:
    while True:
        yield size


def changing(seed: int) -> Any:
    rng = np.random.default_rng(seed)
    while True:
        yield rng.choice([0, 1, 7, 160, 5000, 40_000])


@pytest.mark.parametrize("rate_hz", [8_000, 16_000, 44_100, 48_000, 192_000])
@pytest.mark.parametrize("seconds", [0.3, 2.5, 4.0])
def test_live_frames_equal_frames_of_the_whole_audio(
    tagger: Tagger, monkeypatch: pytest.MonkeyPatch, rate_hz: int, seconds: float
) -> None:
    sound = make_sound(seconds, rate_hz)
    expected = tagger.extractor(open_waveform(sound, rate_hz))
    seen: list[np.ndarray] = []
    scored = Bundle.clip_and_frame_scores

    def watched(self: Bundle, frames: Any, lengths: Any, embedder: str = "") -> Any:
        seen.extend(row[n - 1] for row, n in zip(frames, lengths, strict=True))
        return scored(self, frames, lengths, embedder)

    monkeypatch.setattr(Bundle, "clip_and_frame_scores", watched)
    found = live_tags(tagger, sound, rate_hz, changing(1))
    np.testing.assert_array_equal(np.stack(seen), expected.frames)
    assert [tags.start_seconds for tags in found] == expected.start_seconds.tolist()


def test_tags_do_not_depend_on_block_size(tagger: Tagger) -> None:
    sound = make_sound(14, 44_100)
    whole = live_tags(tagger, sound, 44_100, constant(len(sound)))
    for sizes in (constant(441), constant(30_000), changing(2)):
        pieces = live_tags(tagger, sound, 44_100, sizes)
        assert len(pieces) == len(whole) == 15
        for piece, expected in zip(pieces, whole, strict=True):
            assert piece.start_seconds == expected.start_seconds
            for ours, theirs in (
                (piece.tags, expected.tags),
                (piece.clip_tags, expected.clip_tags),
            ):
                scores = [[tag.score for tag in tags] for tags in (ours, theirs)]
                np.testing.assert_allclose(*scores, atol=1e-5)


def test_clip_tags_equal_file_tags_up_to_clip_length(tagger: Tagger) -> None:
    sound = make_sound(9.6)
    *_, last = live_tags(tagger, sound, 16_000, constant(1600))
    expected = tagger.tag(sound, sample_rate=16_000).tags
    assert [tag.label for tag in last.clip_tags] == [tag.label for tag in expected]
    scores = [[tag.score for tag in tags] for tags in (last.clip_tags, expected)]
    np.testing.assert_allclose(*scores, atol=1e-5)


def test_audio_before_the_window_has_no_effect(tagger: Tagger) -> None:
    end = make_sound(10 * 0.96, seed=5)
    quiet = np.zeros(16_000 * 30 // 25 * 24, np.float32)  # an integer number of frames
    after_quiet = live_tags(tagger, np.concatenate([quiet, end]), 16_000, constant(8000))
    after_noise = live_tags(
        tagger, np.concatenate([make_sound(len(quiet) / 16_000, seed=9), end]), 16_000,
        constant(8000),
    )  # fmt: skip
    assert after_quiet[-1] == after_noise[-1]
    assert after_quiet[-9] != after_noise[-9]


def test_frame_is_tagged_as_soon_as_it_is_complete(tagger: Tagger) -> None:
    live = LiveTagger(tagger, 16_000)
    # The last STFT frame of a patch extends 15 ms past its end.
    n_needed = 15_360 + 240
    assert live.feed(make_sound(1.0)[: n_needed - 1]) == []
    assert len(live.feed(make_sound(1.0)[n_needed - 1 : n_needed])) == 1
    assert live.n_frames == 1


@pytest.mark.parametrize("rate_hz", [8_000, 44_100, 48_000, 192_000])
def test_resampler_delay_is_below_100_ms(tagger: Tagger, rate_hz: int) -> None:
    live = LiveTagger(tagger, rate_hz)
    sound = make_sound(2.0, rate_hz)
    step = rate_hz // 100
    n_fed = 0
    while not live.feed(sound[n_fed : n_fed + step]):
        n_fed += step
    assert (n_fed + step) / rate_hz < 0.975 + 0.1


def test_memory_use_is_bounded(tagger: Tagger) -> None:
    live = LiveTagger(tagger, 16_000, top_k=1)
    block = make_sound(10)
    sizes = []
    for _ in range(6):
        live.feed(block)
        sizes.append(len(live._earlier))
    assert sizes == [tagger.bundle.clip_frames - 1] * 6
    assert live.duration_seconds == 60


@pytest.mark.parametrize("rate_hz", [16_000, 48_000])
def test_integer_and_multichannel_samples_are_converted_as_in_files(
    tagger: Tagger, rate_hz: int
) -> None:
    mono = (make_sound(2.0, rate_hz) * 32767).astype(np.int16)
    expected = live_tags(tagger, mono, rate_hz, constant(5000))
    as_float = mono.astype(np.float32) / 32768
    stereo = np.stack([mono, mono], axis=1)
    assert live_tags(tagger, as_float, rate_hz, constant(5000)) == expected
    assert live_tags(tagger, as_float.astype(np.float64), rate_hz, constant(999)) == expected
    assert live_tags(tagger, stereo, rate_hz, constant(5000)) == expected


def test_live_channels_that_cancel_are_mixed_as_in_files(tagger: Tagger) -> None:
    sound = make_sound(3.3, 44_100)
    stereo = np.stack([sound, -sound], axis=1)
    live = LiveTagger(tagger, 44_100)
    found = [tags for block in np.array_split(stereo, 40) for tags in live.feed(block)]
    found += live.finish()
    assert found == live_tags(tagger, sound, 44_100, constant(999))
    (warning,) = live.warnings
    assert warning.endswith("channel 2 of 2 inverted in 3.30 s of 3.30 s")


def test_number_of_live_channels_may_change(tagger: Tagger) -> None:
    sound = make_sound(2.5)
    live = LiveTagger(tagger, 16_000)
    found = live.feed(np.stack([sound[:8_000]] * 2, axis=1))
    found += live.feed(sound[8_000:])
    assert [*found, *live.finish()] == live_tags(tagger, sound, 16_000, constant(999))


def test_tag_options_are_applied(tagger: Tagger) -> None:
    live = LiveTagger(tagger, 16_000, top_k=2, labels=["Speech", "Dog", "Music"],
                      exclude_labels=["/m/09x0r"])  # fmt: skip
    (tags,) = live.feed(make_sound(1.5))
    assert {tag.label for tag in tags.tags} == {"Dog", "Music"}
    with pytest.raises(OptionError, match="Dog"):
        LiveTagger(tagger, 16_000, labels=["Dgo"])
    with pytest.raises(OptionError, match="top_k"):
        LiveTagger(tagger, 16_000, top_k=0)


def test_head_without_frame_scores_scores_each_frame_separately(
    tagger: Tagger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tagger.bundle, "has_frame_scores", False)
    sound = make_sound(2.0)
    found = live_tags(tagger, sound, 16_000, constant(1600))
    frames = tagger.extractor(open_waveform(sound, 16_000)).frames
    for row, tags in zip(frames, found, strict=True):
        alone = tagger.tag_frames(np.asarray(row, np.uint8)[None], embedder="mini")
        np.testing.assert_allclose(
            [tag.score for tag in tags.tags], [tag.score for tag in alone.tags], atol=1e-5
        )


def test_empty_stream_gives_no_tags_and_cannot_be_fed_once_finished(tagger: Tagger) -> None:
    live = LiveTagger(tagger, 44_100)
    assert live.feed(np.zeros(0, np.float32)) == []
    assert live.finish() == []
    assert live.finish() == []
    assert live.duration_seconds == 0
    with pytest.raises(OptionError, match="finished"):
        live.feed(np.zeros(10, np.float32))


def test_one_sample_is_tagged(tagger: Tagger) -> None:
    live = LiveTagger(tagger, 1_000_000)
    live.feed(np.ones(1, np.float32))
    assert len(live.finish()) == 1


@pytest.mark.parametrize(
    ("samples", "told"),
    [
        (np.zeros((2, 2, 2), np.float32), "shape"),
        (np.zeros((5, 0), np.float32), "shape"),
        (np.zeros(5, np.uint8), "int16"),
        (np.zeros(5, np.int64), "int16"),
    ],
)
def test_invalid_samples_are_rejected(tagger: Tagger, samples: Any, told: str) -> None:
    with pytest.raises(OptionError, match=told):
        LiveTagger(tagger, 16_000).feed(samples)


@pytest.mark.parametrize("rate_hz", [0, 1_000_001])
def test_sample_rate_out_of_range_is_rejected(tagger: Tagger, rate_hz: int) -> None:
    with pytest.raises(OptionError, match="sample rate"):
        LiveTagger(tagger, rate_hz)
