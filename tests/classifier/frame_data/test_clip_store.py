from __future__ import annotations

import mmap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifier.frame_data.clip_store import ClipStore, load_clips
from classifier.frame_data.clips import Clip, ReadReport
from classifier.frame_data.records import read_clips
from classifier.names import SAMPLINGS
from tests.support.records import audioset_record, make_frames, write_records
from vggish.errors import FrameFileError, OptionError

LENGTHS = [3, 1, 10, 4, 7]
LABELS = [(1,), None, (2, 0), (), (5, 3, 1)]


def make_clips() -> list[Clip]:
    return [
        Clip(f"clip{i}", make_frames(n, seed=i), labels, "mini" if i else "", "somewhere")
        for i, (n, labels) in enumerate(zip(LENGTHS, LABELS, strict=True))
    ]


@pytest.mark.parametrize("memory_limit_bytes", [1 << 20, 128 * 8, 0])
def test_store_returns_its_clips(memory_limit_bytes: int) -> None:
    clips = make_clips()
    store = ClipStore.from_clips(iter(clips), memory_limit_bytes=memory_limit_bytes)
    assert len(store) == 5
    assert store.lengths.tolist() == LENGTHS
    assert store.offsets.tolist() == [0, 3, 4, 14, 18, 25]
    assert store.longest == 10
    assert store.is_labelled.tolist() == [True, False, True, True, True]
    base = store.frames
    while isinstance(base, np.ndarray):
        base = base.base
    assert isinstance(base, mmap.mmap) == (memory_limit_bytes < 128 * 25)
    for read, clip in zip(store, clips, strict=True):
        assert (read.clip_id, read.labels, read.embedder) == (
            *(clip.clip_id, clip.labels, clip.embedder),
        )
        np.testing.assert_array_equal(read.frames, clip.frames)
    assert store[-1].clip_id == "clip4"
    with pytest.raises(IndexError):
        store[5]


def test_empty_store_is_valid() -> None:
    store = ClipStore.from_clips([])
    assert (len(store), store.longest, store.frames.shape) == (0, 0, (0, 128))
    frames, lengths = store.gather([], 4)
    assert (frames.shape, lengths.shape) == ((0, 4, 128), (0,))
    assert store.label_matrix([], 3).shape == (0, 3)


@pytest.mark.parametrize("n_frames", [None, 1, 5, 20])
@pytest.mark.parametrize("memory_limit_bytes", [1 << 20, 0])
def test_batch_of_all_frames_is_padded(n_frames: int | None, memory_limit_bytes: int) -> None:
    clips = make_clips()
    store = ClipStore.from_clips(clips, memory_limit_bytes=memory_limit_bytes)
    indices = [4, 0, 4, 2, 1]
    batch, lengths = store.gather(indices, n_frames)
    width = n_frames or 10
    assert (batch.shape, batch.dtype, lengths.dtype) == ((5, width, 128), np.uint8, np.int32)
    for row, length, index in zip(batch, lengths, indices, strict=True):
        frames = clips[index].frames[:width]
        assert length == len(frames)
        np.testing.assert_array_equal(row[:length], frames)
        assert not row[length:].any()


def rows_in_clip(batch: Any, clip: Clip) -> list[int]:
    """Return the index of the clip frame that each row equals."""
    matches = (batch[:, None] == clip.frames[None]).all(axis=2)
    assert matches.any(axis=1).all()
    return [int(row) for row in matches.argmax(axis=1)]


def test_run_sampling_takes_consecutive_frames_from_any_start() -> None:
    clips = make_clips()
    store = ClipStore.from_clips(clips)
    rng = np.random.default_rng(0)
    starts = set()
    for _ in range(100):
        batch, lengths = store.gather([2, 0], 4, "run", rng)
        assert lengths.tolist() == [4, 3]
        run = rows_in_clip(batch[0], clips[2])
        assert run == list(range(run[0], run[0] + 4))
        starts.add(run[0])
        np.testing.assert_array_equal(batch[1, :3], clips[0].frames)
        assert not batch[1, 3:].any()
    assert starts == set(range(7))


def test_random_frames_are_drawn_uniformly_from_the_clip() -> None:
    clips = make_clips()
    store = ClipStore.from_clips(clips)
    rng = np.random.default_rng(0)
    counts = np.zeros(3)
    for _ in range(100):
        batch, lengths = store.gather([0, 2], 30, "random", rng)
        assert lengths.tolist() == [30, 30]
        counts += np.bincount(rows_in_clip(batch[0], clips[0]), minlength=3)
        rows_in_clip(batch[1], clips[2])
    assert (np.abs(counts / 3000 - 1 / 3) < 0.05).all()


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_equal_seeds_draw_equal_batches_and_empty_clips_stay_empty(sampling: str) -> None:
    store = ClipStore.from_clips([Clip("none", make_frames(0)), *make_clips()])
    indices = [0, 3, 5]
    first, lengths = store.gather(indices, 6, sampling, np.random.default_rng(3))
    second, _ = store.gather(indices, 6, sampling, np.random.default_rng(3))
    np.testing.assert_array_equal(first, second)
    assert lengths[0] == 0
    assert not first[0].any()
    only_empty = ClipStore.from_clips([Clip("none", make_frames(0))])
    batch, lengths = only_empty.gather([0, 0], 2, sampling, np.random.default_rng(3))
    assert (batch.shape, lengths.tolist()) == ((2, 2, 128), [0, 0])


def test_unknown_sampling_or_a_missing_generator_is_rejected() -> None:
    store = ClipStore.from_clips(make_clips())
    with pytest.raises(OptionError, match=r"all, random, run\. Received: 'some'"):
        store.gather([0], 2, "some")
    with pytest.raises(OptionError, match="'run' needs a random generator"):
        store.gather([0], 2, "run")


def test_label_matrix_is_multi_hot() -> None:
    store = ClipStore.from_clips(make_clips())
    indices = [4, 1, 2, 2, 3, 0]
    expected = np.zeros((6, 7), bool)
    for row, index in zip(expected, indices, strict=True):
        row[list(LABELS[index] or ())] = True
    matrix = store.label_matrix(indices, 7)
    assert matrix.dtype == bool
    np.testing.assert_array_equal(matrix, expected)
    with pytest.raises(FrameFileError, match=r"'clip4' has the label 5, .*5 classes \(0 to 4"):
        store.label_matrix(indices, 5)


def test_load_clips_equals_read_clips(tmp_path: Path) -> None:
    paths = [
        write_records(tmp_path / "x.tfrecord", *(audioset_record(c, i + 1, i) for i, c in pairs))
        for pairs in [list(enumerate("aab"))]
    ]
    report = ReadReport()
    store = load_clips(paths, report=report)
    assert list(store.ids) == ["a", "a", "b"]
    assert store.lengths.tolist() == [1, 2, 3]
    assert report.n_repeated_ids == 1
    for read, packed in zip(read_clips(paths), store, strict=True):
        np.testing.assert_array_equal(read.frames, packed.frames)
        assert read.labels == packed.labels


def test_full_disk_error_suggests_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full() -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("classifier.frame_data.clip_store.tempfile.TemporaryFile", full)
    with pytest.raises(FrameFileError, match=r"No space left on device\. .*TMPDIR"):
        ClipStore.from_clips(make_clips(), memory_limit_bytes=0)
