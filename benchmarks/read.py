"""Clips read per second into a `ClipStore`, beside TensorFlow's own reader, in one run.

    python -m benchmarks.read                               on shards that it makes
    python -m benchmarks.read --frames '.../*.tfrecord'     on those of a pattern

TensorFlow's reader is `TFRecordDataset` and `parse_sequence_example` in batches, over several
files at once, with checksums as ours; it ends with ragged bytes, not with arrays of frames. The
two take turns, after a round that warms the disk's cache, and the best round of each counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.console import run as run_benchmark
from benchmarks.embed import machine
from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.finding import find_frame_files
from vggish.errors import OptionError
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import frame_record

# AudioSet's balanced training set has so many.
N_SHARDS, N_CLIPS = 4_070, 22_160
CLIP_FRAMES = 10
LABELS_PER_CLIP = 3
TARGET_CLIPS_PER_SECOND = 20_000
ROUNDS = 5
BATCH = 512


def write_shards(directory: Path) -> None:
    """Made clips in the form of the released ones, spread over as many shards."""
    rng = np.random.default_rng(0)
    for shard, numbers in enumerate(np.array_split(np.arange(N_CLIPS), N_SHARDS)):
        records = b"".join(frame_record(made_record(f"clip{n:07d}", rng)) for n in numbers)
        (directory / f"{shard:04d}.tfrecord").write_bytes(records)


def made_record(clip_id: str, rng: np.random.Generator) -> bytes:
    example = message_class("SequenceExample")()
    context = example.context.feature
    context["video_id"].bytes_list.value.append(clip_id.encode())
    context["start_time_seconds"].float_list.value.append(0.0)
    context["end_time_seconds"].float_list.value.append(float(CLIP_FRAMES))
    labels = rng.choice(527, LABELS_PER_CLIP, replace=False).tolist()
    context["labels"].int64_list.value.extend(labels)
    rows = example.feature_lists.feature_list["audio_embedding"].feature
    for _ in range(CLIP_FRAMES):
        rows.add().bytes_list.value.append(rng.bytes(128))
    return bytes(example.SerializeToString())


def with_audiotag(paths: Sequence[str]) -> int:
    return len(load_clips(paths))


def with_tensorflow(paths: Sequence[str]) -> int:
    import tensorflow as tf

    context = {
        "video_id": tf.io.FixedLenFeature([], tf.string, ""),
        "labels": tf.io.VarLenFeature(tf.int64),
    }
    lists = {"audio_embedding": tf.io.RaggedFeature(tf.string)}
    records = tf.data.TFRecordDataset(list(paths), num_parallel_reads=tf.data.AUTOTUNE)
    parsed = records.batch(BATCH).map(
        lambda batch: tf.io.parse_sequence_example(batch, context, lists),
        num_parallel_calls=tf.data.AUTOTUNE,
    )
    return sum(len(batch[0]["video_id"]) for batch in parsed.prefetch(tf.data.AUTOTUNE))


def measure(paths: Sequence[str]) -> dict[str, float]:
    """Best clips/s of each reader; TensorFlow's is left out where it is not installed."""
    readers: dict[str, Callable[[Sequence[str]], int]] = {"audiotag": with_audiotag}
    try:
        import tensorflow  # noqa: F401

        readers["TensorFlow"] = with_tensorflow
    except ImportError:
        print("TensorFlow's reader is skipped: it is not installed")
    counts = {name: read(paths) for name, read in readers.items()}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"the readers do not agree on the number of clips: {counts}")
    best = dict.fromkeys(readers, 0.0)
    for _ in range(ROUNDS):
        for name, read in readers.items():
            start = time.perf_counter()
            n_clips = read(paths)
            best[name] = max(best[name], n_clips / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measure, and print a table."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", nargs="+", help="files, directories or 'patterns'")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        if options.frames is None:
            write_shards(Path(scratch))
        try:
            paths = find_frame_files(options.frames or [scratch])
        except OptionError as error:
            print(f"skipped: {error}")
            return
        rates = measure(paths)
    print(f"{machine()}; {len(paths):,} files, warm, best of {ROUNDS} rounds\n")
    print(f"{'reader':<12} {'clips/s':>10}")
    for name, rate in rates.items():
        print(f"{name:<12} {rate:10,.0f}")
    met = "met" if rates["audiotag"] >= TARGET_CLIPS_PER_SECOND else "not met"
    print(f"\ntarget: {TARGET_CLIPS_PER_SECOND:,} clips/s, {met}")


if __name__ == "__main__":
    run_benchmark(main)
