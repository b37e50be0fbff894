"""Names and choices that several parts of the classifier share. Importing this loads no numpy."""

from __future__ import annotations

# Files of a bundle, and the directory of the bundle in a training run.
HEAD_FILE = "head.onnx"
LABELS_FILE = "labels.csv"
CARD_FILE = "bundle.json"
RUN_BUNDLE = "bundle"
# The embedder of AudioSet's and YouTube-8M's released frames, whose records name none.
RELEASED_EMBEDDER = "vggish"
# Frames of a clip to train on: all, random ones with replacement, or a random run of neighbours.
SAMPLINGS = ("all", "random", "run")
TRAINING_PRECISIONS = ("float32", "bfloat16")  # bfloat16 keeps the weights in float32
PREDICTION_FORMATS = ("yt8m", "wide", "jsonl", "parquet")
