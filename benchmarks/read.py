"""Benchmark of reading: clips/s into a `ClipStore` compared with TensorFlow's reader.

    python -m benchmarks.read                               read generated shards
    python -m benchmarks.read --quick                       read fewer of them, in one round
    python -m benchmarks.read --frames '.../*.tfrecord'     read these files

TensorFlow's reader is `TFRecordDataset` with batched `parse_sequence_example`. It reads several
files in parallel and verifies checksums, as audiotag does, but returns ragged bytes instead of
arrays of frames. The readers alternate after a round that warms the disk cache; the best round of
each counts.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.console import run_benchmark
from benchmarks.embed import machine
from classifier.frame_data.clip_store import load_clips
from classifier.frame_data.finding import find_frame_files
from vggish.errors import OptionError
from vggish.frames.protobuf import message_class
from vggish.frames.tfrecord import frame_record

# As in AudioSet's balanced training set.
N_SHARDS, N_CLIPS = 4_070, 22_160
CLIP_FRAMES = 10
LABELS_PER_CLIP = 3
TARGET_CLIPS_PER_SECOND = 20_000
ROUNDS = 5
BATCH = 512


def write_shards(directory: Path, n_shards: int = N_SHARDS, n_clips: int = N_CLIPS) -> None:
    """Write generated clips in the format of the released ones, spread over the shards."""
    rng = np.random.default_rng(0)
    for shard, numbers in enumerate(np.array_split(np.arange(n_clips), n_shards)):
        records = b"".join(frame_record(random_record(f"clip{n:07d}", rng)) for n in numbers)
        (directory / f"{shard:04d}.tfrecord").write_bytes(records)


def random_record(clip_id: str, rng: np.random.Generator) -> bytes:
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


def measure(paths: Sequence[str], n_rounds: int = ROUNDS) -> dict[str, float]:
    """Return the best clips/s of each reader; skip TensorFlow's if it is not installed."""
    readers: dict[str, Callable[[Sequence[str]], int]] = {"audiotag": with_audiotag}
    try:
        import tensorflow  # noqa: F401

        readers["TensorFlow"] = with_tensorflow
    except ImportError:
        print("skipping TensorFlow's reader: TensorFlow is not installed")
    counts = {name: read(paths) for name, read in readers.items()}
    if len(set(counts.values())) > 1:
        raise SystemExit(f"the readers disagree on the number of clips: {counts}")
    best = dict.fromkeys(readers, 0.0)
    for _ in range(n_rounds):
        for name, read in readers.items():
            start = time.perf_counter()
            n_clips = read(paths)
            best[name] = max(best[name], n_clips / (time.perf_counter() - start))
    return best


def main() -> None:
    """Measure and print a table."""
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="read fewer shards, in one round")
    parser.add_argument(
        "--frames", nargs="+", help="read these files, directories or quoted patterns"
    )
    options = parser.parse_args()
    n_rounds, share = (1, 20) if options.quick else (ROUNDS, 1)
    with tempfile.TemporaryDirectory(prefix="audiotag-bench-") as scratch:
        if options.frames is None:
            write_shards(Path(scratch), N_SHARDS // share, N_CLIPS // share)
        try:
            paths = find_frame_files(options.frames or [scratch])
        except OptionError as error:
            print(f"skipping the benchmark: {error}")
            return
        rates = measure(paths, n_rounds)
    print(f"{machine()}; {len(paths):,} files, warm cache, best of {n_rounds} rounds\n")
    print(f"{'reader':<12} {'clips/s':>10}")
    for name, rate in rates.items():
        print(f"{name:<12} {rate:10,.0f}")
    met = "met" if rates["audiotag"] >= TARGET_CLIPS_PER_SECOND else "not met"
    print(f"\ntarget: {TARGET_CLIPS_PER_SECOND:,} clips/s, {met}")


if __name__ == "__main__":
    run_benchmark(main)
