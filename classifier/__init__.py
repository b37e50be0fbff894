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

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes

if TYPE_CHECKING:
    from classifier.bundles.bundle import Bundle as Bundle, load as load
    from classifier.frame_data.clip_store import ClipStore as ClipStore, load_clips as load_clips
    from classifier.frame_data.clips import Clip as Clip, ReadReport as ReadReport
    from classifier.frame_data.records import read_clips as read_clips
    from classifier.labels import (
        Labels as Labels,
        audioset_labels as audioset_labels,
        read_labels as read_labels,
    )
    from classifier.tagger import Tagger as Tagger
    from classifier.tags.types import (
        ClipTags as ClipTags,
        FrameTags as FrameTags,
        Tag as Tag,
        Tags as Tags,
        TagSegment as TagSegment,
    )

__getattr__, __dir__, __all__ = lazy_attributes(
    __name__,
    {
        "classifier.bundles.bundle": ("Bundle", "load"),
        "classifier.frame_data.clip_store": ("ClipStore", "load_clips"),
        "classifier.frame_data.clips": ("Clip", "ReadReport"),
        "classifier.frame_data.records": ("read_clips",),
        "classifier.labels": ("Labels", "audioset_labels", "read_labels"),
        "classifier.tagger": ("Tagger",),
        "classifier.tags.types": ("ClipTags", "FrameTags", "Tag", "Tags", "TagSegment"),
    },
)
