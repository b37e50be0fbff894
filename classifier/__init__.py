"""Sequence classifiers on frames: reading records, heads, training, metrics, bundles."""
