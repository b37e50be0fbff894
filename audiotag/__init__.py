"""Tag audio: waveforms in, AudioSet classes out.

    import audiotag

    audiotag.classify("clip.wav").tags[:3]        # the best tags, each with a label and a score

    tagger = audiotag.Tagger.load("audioset")     # load the network once, tag many clips
    for path in paths:
        print(path, tagger.tag(path, top_k=1).tags[0].label)

    clip = audiotag.embed("clip.wav")             # frames uint8 [n, 128], start_seconds [n]
    audiotag.write_frames("clip.npz", clip)

    config = audiotag.TrainingConfig(head="attention", epochs=20)
    fitted = audiotag.train(frames="data/", labels="classes.csv", config=config)
    audiotag.evaluate(fitted.bundle, "eval/").metrics["mAP"]

Names are imported when they are first used, so importing this package costs almost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes
from vggish.params import VERSION

if TYPE_CHECKING:
    from classifier.api import classify as classify, evaluate as evaluate, train as train
    from classifier.bundles.bundle import Bundle as Bundle
    from classifier.labels import Labels as Labels
    from classifier.reports.evaluation import Evaluation as Evaluation
    from classifier.tagger import Tagger as Tagger
    from classifier.tags.types import (
        ClipTags as ClipTags,
        FrameTags as FrameTags,
        Tag as Tag,
        Tags as Tags,
        TagSegment as TagSegment,
    )
    from classifier.training.config import TrainingConfig as TrainingConfig
    from classifier.training.runs import Fitted as Fitted
    from service.client.client import AsyncClient as AsyncClient, Client as Client
    from vggish.api import embed as embed
    from vggish.errors import AudiotagError as AudiotagError
    from vggish.extractor import EmbedOptions as EmbedOptions, Extractor as Extractor
    from vggish.frames.clip import ClipFrames as ClipFrames
    from vggish.frames.files import read_frames as read_frames, write_frames as write_frames

__version__ = VERSION

__getattr__, __dir__, __all__ = lazy_attributes(
    __name__,
    {
        "classifier.api": ("classify", "evaluate", "train"),
        "classifier.bundles.bundle": ("Bundle",),
        "classifier.training.runs": ("Fitted",),
        "classifier.labels": ("Labels",),
        "classifier.reports.evaluation": ("Evaluation",),
        "classifier.tagger": ("Tagger",),
        "classifier.tags.types": ("ClipTags", "FrameTags", "Tag", "Tags", "TagSegment"),
        "classifier.training.config": ("TrainingConfig",),
        "service.client.client": ("AsyncClient", "Client"),
        "vggish.api": ("embed",),
        "vggish.errors": ("AudiotagError",),
        "vggish.extractor": ("EmbedOptions", "Extractor"),
        "vggish.frames.clip": ("ClipFrames",),
        "vggish.frames.files": ("read_frames", "write_frames"),
    },
)
