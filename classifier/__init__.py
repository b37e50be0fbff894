"""Sequence classifiers on frames: reading records, heads, training, metrics, bundles.

    import classifier

    bundle = classifier.load("weights/audioset-gru")   # no TensorFlow needed
    scores = bundle.scores(frames, n_frames)           # uint8 [B, T, 128] -> float32 [B, C]

    tagger = classifier.Tagger.load("audioset-gru")    # once, for any number of sounds
    for tag in tagger.tag("clip.wav", top_k=3).tags:
        print(tag.label, tag.score)

    for clip in classifier.read_clips(["frames.tfrecord"]):
        print(clip.clip_id, clip.labels, clip.frames.shape)

Names are loaded when they are first used, so that importing this package costs nothing.
Measuring and writing predictions: `classifier.evaluate.evaluate`, `classifier.predict.predict`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from classifier.bundles.bundle import Bundle, load
    from classifier.frame_data.clip_store import ClipStore, load_clips
    from classifier.frame_data.clips import Clip, ReadReport
    from classifier.frame_data.records import read_clips
    from classifier.labels import Labels, audioset_labels, read_labels
    from classifier.tagger import Tagger
    from classifier.tags.types import ClipTags, FrameTags, Tag, Tags, TagSegment

_MODULE_OF = {
    "Bundle": "bundles.bundle",
    "Clip": "frame_data.clips",
    "ClipStore": "frame_data.clip_store",
    "ClipTags": "tags.types",
    "FrameTags": "tags.types",
    "Labels": "labels",
    "ReadReport": "frame_data.clips",
    "Tag": "tags.types",
    "TagSegment": "tags.types",
    "Tagger": "tagger",
    "Tags": "tags.types",
    "audioset_labels": "labels",
    "load": "bundles.bundle",
    "load_clips": "frame_data.clip_store",
    "read_clips": "frame_data.records",
    "read_labels": "labels",
}

__all__ = [
    "Bundle",
    "Clip",
    "ClipStore",
    "ClipTags",
    "FrameTags",
    "Labels",
    "ReadReport",
    "Tag",
    "TagSegment",
    "Tagger",
    "Tags",
    "audioset_labels",
    "load",
    "load_clips",
    "read_clips",
    "read_labels",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'classifier' has no attribute {name!r}")
    return getattr(importlib.import_module(f"classifier.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
