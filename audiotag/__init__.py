"""Tag audio: waveforms in, AudioSet classes out.

    import audiotag

    audiotag.classify("clip.wav").tags[:3]        # the best tags, each with a label and a score

    tagger = audiotag.Tagger.load("audioset")     # load the network once, tag many clips
    for path in paths:
        print(path, tagger.tag(path, top_k=1).tags[0].label)

    clip = audiotag.embed("clip.wav")             # frames uint8 [n, 128], start_seconds [n]
    audiotag.write_frames("clip.npz", clip)

Names are imported when they are first used, so importing this package costs almost nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes
from vggish.params import VERSION

if TYPE_CHECKING:
    from classifier.tagger import Tagger as Tagger
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
        "classifier.tagger": ("Tagger",),
        "service.client.client": ("AsyncClient", "Client"),
        "vggish.api": ("embed",),
        "vggish.errors": ("AudiotagError",),
        "vggish.extractor": ("EmbedOptions", "Extractor"),
        "vggish.frames.clip": ("ClipFrames",),
        "vggish.frames.files": ("read_frames", "write_frames"),
    },
)
