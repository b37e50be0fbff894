"""Names of the files in a bundle."""

from __future__ import annotations

HEAD_FILE = "head.onnx"

LABELS_FILE = "labels.csv"

CARD_FILE = "bundle.json"

# Where a run of training keeps its own.
RUN_BUNDLE = "bundle"
