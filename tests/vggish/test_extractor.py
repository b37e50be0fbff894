from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.support.sounds import make_sound
from vggish import (
    Embedder,
    EmbedOptions,
    Extractor,
    load_audio,
    load_embedder,
    load_extractor,
    log_mel_patches,
    open_audio,
)
from vggish.errors import EmptyAudioError, OptionError
from vggish.frames.clip import ClipFrames
from vggish.params import PATCH_SAMPLES, VERSION
from vggish.postprocess import Pca, quantize


@pytest.fixture
def make_extractor(small_home: Path) -> Callable[..., Extractor]:
    embedder, pca = load_embedder()
    return lambda **options: Extractor(embedder, pca, EmbedOptions(**options))


class InBlocksOf:
    """An audio stream decoded in blocks of `block_frames`."""

    def __init__(self, stream: Any, block_frames: int) -> None:
        self._stream = stream
        self._block_frames = block_frames

    def blocks(self) -> Iterator[Any]:
        return self._stream.blocks(self._block_frames)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@pytest.mark.parametrize("resampler", ["soxr", "resampy"])
def test_frames_do_not_depend_on_the_blocks_of_the_decoder(
    make_extractor: Any, write_sound: Any, resampler: str
) -> None:
    path = write_sound("a.wav", seconds=40.3, rate_hz=22_050)
    extractor = make_extractor(values="raw", resampler=resampler)
    whole = extractor(path).frames
    assert len(whole) == 42
    for block_frames in (997, 22_050, 10**7):
        with open_audio(path) as stream:
            cut = np.concatenate(list(extractor.stream(InBlocksOf(stream, block_frames))))
        np.testing.assert_allclose(cut, whole, atol=2e-4)


def test_a_stream_equals_the_stages_applied_patch_by_patch(
    make_extractor: Any, write_sound: Any
) -> None:
    path = write_sound("a.wav", seconds=70.0)  # more than two batches
    extractor = make_extractor()
    patches = log_mel_patches(load_audio(path))
    raw = np.concatenate([extractor.embedder(patch[None]) for patch in patches])
    np.testing.assert_allclose(make_extractor(values="raw")(path).frames, raw, atol=1e-5)
    pca = make_extractor(values="pca")(path).frames
    np.testing.assert_allclose(pca, extractor.pca(raw), atol=1e-3)
    frames = extractor(path).frames
    assert frames.dtype == np.uint8
    assert pca.dtype == np.float32
    np.testing.assert_array_equal(frames, quantize(pca))
    assert len(np.unique(frames, axis=0)) == len(frames) == 73


def test_only_a_clip_of_several_batches_starts_a_thread(
    make_extractor: Any, write_sound: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_threads = 0

    class Counted(ThreadPoolExecutor):
        def __init__(self, *args: Any) -> None:
            nonlocal n_threads
            n_threads += 1
            super().__init__(*args)

    monkeypatch.setattr("vggish.extractor.ThreadPoolExecutor", Counted)
    extractor = make_extractor()
    for n_frames, n_expected in ((10, 0), (31, 0), (32, 1), (33, 1)):
        n_threads = 0
        clip = extractor(write_sound("a.wav", seconds=n_frames * 0.96))
        assert (len(clip), n_threads) == (n_frames, n_expected)


def test_frames_start_a_hop_apart(make_extractor: Any, write_sound: Any) -> None:
    path = write_sound("a.wav", seconds=10.0)
    assert make_extractor()(path).start_seconds.tolist() == [
        *(0.0, 0.96, 1.92, 2.88, 3.84, 4.8, 5.76, 6.72, 7.68, 8.64)
    ]
    audioset = make_extractor(hop_seconds=1.0)(path)
    assert audioset.start_seconds.tolist() == [float(second) for second in range(10)]
    # Each frame equals that of the audio from its start time on.
    waveform = load_audio(path)
    second = make_extractor()(_wav(waveform[16_000 * 3 :])).frames[0]
    np.testing.assert_array_equal(audioset.frames[3], second)


@pytest.mark.parametrize(
    ("n_samples", "n_dropped", "n_padded"),
    [
        (1, 0, 1),
        (15_599, 0, 1),
        (15_600, 1, 1),
        (23_039, 1, 1),
        (23_040, 1, 2),
        (30_959, 1, 2),
        (30_960, 2, 2),
        (160_000, 10, 10),
    ],
)
def test_the_tail_is_padded_or_dropped(
    make_extractor: Any, n_samples: int, n_dropped: int, n_padded: int
) -> None:
    data = _wav(make_sound(10.0)[:n_samples])
    dropped, padded = make_extractor(tail="drop")(data), make_extractor()(data)
    assert (len(dropped), len(padded)) == (n_dropped, n_padded)
    assert dropped.frames.shape == (n_dropped, 128)
    np.testing.assert_array_equal(padded.frames[:n_dropped], dropped.frames)


def test_clip_shorter_than_a_patch_is_padded_with_silence(make_extractor: Any) -> None:
    short = make_sound(0.3)
    silence = np.zeros(PATCH_SAMPLES - len(short), np.float32)
    extractor = make_extractor()
    assert len(extractor(_wav(short))) == 1
    np.testing.assert_array_equal(
        extractor(_wav(short)).frames, extractor(_wav(np.concatenate([short, silence]))).frames
    )


def test_path_bytes_and_file_object_give_the_same_frames(
    make_extractor: Any, write_sound: Any
) -> None:
    path = write_sound("dir/my clip.wav", seconds=2.0)
    extractor = make_extractor()
    clips = [
        extractor(path),
        extractor(path.read_bytes()),
        extractor(io.BytesIO(path.read_bytes())),
    ]
    for clip in clips[1:]:
        np.testing.assert_array_equal(clip.frames, clips[0].frames)
    assert clips[0].clip_id == "my clip"
    assert extractor(path, "named").clip_id == "named"


def test_outputs_have_provenance(make_extractor: Any, write_sound: Any) -> None:
    path = write_sound("a.wav", seconds=2.0, rate_hz=44_100, n_channels=2)
    metadata = make_extractor(hop_seconds=0.5, tail="drop", values="pca")(path).metadata
    provider = metadata["embedder"].pop("provider")
    assert provider.endswith("ExecutionProvider")
    digests = [metadata["embedder"].pop("model_sha256"), metadata.pop("pca_sha256")]
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert metadata == {
        "audiotag_version": VERSION,
        "embedder": {"name": "vggish", "weights_sha256": "5" * 64, "precision": "float32"},
        "values": "pca",
        "hop_seconds": 0.5,
        "tail": "drop",
        "resampler": "soxr",
        "duration_seconds": 2.0,
        "source": {
            "name": str(path),
            "sample_rate_hz": 44_100,
            "n_channels": 2,
            "format": "WAV/PCM_16",
        },
        "warnings": [],
    }


def test_provenance_depends_on_the_pca_and_the_network(
    make_extractor: Any, small_network: Path
) -> None:
    extractor = make_extractor()
    other_pca = Pca(2 * extractor.pca.eigen_vectors, extractor.pca.means)
    assert Extractor(extractor.embedder, other_pca).provenance != extractor.provenance
    other = Embedder(small_network, name="vggish", weights_sha256="5" * 64, model_sha256="1" * 64)
    assert Extractor(other, extractor.pca).provenance != extractor.provenance


@pytest.mark.parametrize("hop", [np.float32(0.48), np.float64(0.48), np.int64(1), 1])
def test_hop_may_be_any_number_type(hop: Any, make_extractor: Any, write_sound: Any) -> None:
    clip = make_extractor(hop_seconds=hop)(write_sound("a.wav", seconds=70.0))
    exact = round(float(hop), 2)
    assert clip.start_seconds.tolist() == [round(k * exact, 2) for k in range(len(clip))]
    assert json.loads(json.dumps(clip.metadata))["hop_seconds"] == exact


@pytest.mark.parametrize(
    "options",
    [{"hop_seconds": "1"}, {"hop_seconds": None}, {"hop_seconds": True}, {"resampler": []}],
)
def test_options_of_another_type_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(OptionError):
        EmbedOptions(**options)


def test_progress_counts_the_seconds(make_extractor: Any, write_sound: Any) -> None:
    seen: list[tuple[float, float | None]] = []
    make_extractor()(
        write_sound("a.wav", seconds=60.0), on_progress=lambda *args: seen.append(args)
    )
    assert len(seen) > 2
    assert seen == sorted(seen)
    assert seen[-1] == (60.0, 60.0)


def test_an_abandoned_stream_leaves_no_thread(make_extractor: Any, write_sound: Any) -> None:
    before = set(threading.enumerate())
    with open_audio(write_sound("a.wav", seconds=100.0)) as stream:
        blocks = make_extractor().stream(stream)
        assert len(next(blocks)) == 32
        assert set(threading.enumerate()) > before
        blocks.close()
        assert set(threading.enumerate()) == before


def test_errors_of_the_front_end_reach_the_caller(make_extractor: Any, write_sound: Any) -> None:
    def fail(seconds: float, _: float | None) -> None:
        if seconds > 20:
            raise ZeroDivisionError("front end")

    before = set(threading.enumerate())
    with pytest.raises(ZeroDivisionError, match="front end"):
        make_extractor()(write_sound("a.wav", seconds=100.0), on_progress=fail)
    assert set(threading.enumerate()) == before
    with pytest.raises(EmptyAudioError, match="0 samples"):
        make_extractor()(_wav(np.zeros(0, np.float32)))


def test_threads_share_one_extractor(make_extractor: Any, write_sound: Any) -> None:
    paths = [write_sound(f"{seed}.wav", seconds=3 + 7 * seed, seed=seed) for seed in range(6)]
    extractor = make_extractor()
    alone = [extractor(path).frames for path in paths]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda path: extractor(path).frames, paths * 2))
    for one, other in zip(alone * 2, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_duration(small_home: Path, tmp_path: Path) -> None:
    program = (
        "import resource, sys, vggish\n"
        "n = len(vggish.embed(sys.argv[1]))\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)"
    )
    minute = make_sound(60.0)
    peaks = []
    for n_minutes in (1, 60):
        path = tmp_path / f"{n_minutes}.wav"
        with soundfile.SoundFile(path, "w", 16_000, 1) as file:
            for _ in range(n_minutes):
                file.write(minute)
        command = [sys.executable, "-c", program, str(path)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ.copy()
        )
        n_frames, peak_mib = map(int, done.stdout.split())
        assert n_frames == pytest.approx(n_minutes * 62.5, abs=1)
        peaks.append(peak_mib)
    # As float32, the long waveform alone would take 220 MiB, and its patches 88 MiB.
    assert peaks[1] - peaks[0] < 40


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"values": "int4"}, "values must be one of"),
        ({"resampler": "sinc"}, "resampler must be one of"),
        ({"tail": "keep"}, "tail must be"),
        ({"hop_seconds": 0.965}, "multiple of 0.01 s"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message):
        EmbedOptions(**options)


def test_clip_frames_refuse_invalid_attributes() -> None:
    frames, times = np.zeros((2, 128), np.uint8), np.zeros(2)
    with pytest.raises(OptionError, match=r"\(2, 127\)"):
        ClipFrames("a", frames[:, :127], times)
    with pytest.raises(OptionError, match="start_seconds"):
        ClipFrames("a", frames, times[:1])
    with pytest.raises(OptionError, match="float64"):
        ClipFrames("a", frames.astype(np.float64), times)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="Unicode"):
        ClipFrames("caf\udce9", frames, times)


def _wav(waveform: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, 16_000, format="WAV", subtype="FLOAT")
    return file.getvalue()


def test_timings_are_measured_and_not_stored_in_files(
    write_sound: Callable[..., Path],
) -> None:
    clip = load_extractor("mini")(write_sound("a.wav", seconds=40, rate_hz=44_100))
    assert set(clip.timings) == {"decode", "front_end", "embed"}
    assert all(0 < seconds < 60 for seconds in clip.timings.values())
    assert "timings" not in clip.metadata
