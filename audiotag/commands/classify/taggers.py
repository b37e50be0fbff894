"""The tagger of `audiotag classify` on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable

from audiotag.commands.classify.options import Options
from audiotag.terminal.streams import STDOUT
from classifier.tagger import DEFAULT_MODEL, Tagger, choose_embedder
from classifier.tags.choice import Choice
from classifier.tags.types import ClipTags
from vggish.audio.sources import source_name
from vggish.audio.stream import open_audio
from vggish.embedders.choice import find_embedder
from vggish.errors import OptionError
from vggish.extractor import OnAudioProgress

AudioSource = str | bytes
TagFn = Callable[[AudioSource, OnAudioProgress], ClipTags]


def local_tagger(options: Options) -> TagFn:
    """A tagger on this machine."""
    tagger = load_tagger(options)
    check_times(options, tagger.bundle.name, tagger.bundle.has_frame_scores)

    def tag(source: AudioSource, on_progress: OnAudioProgress) -> ClipTags:
        name = source_name(STDOUT) if isinstance(source, bytes) else None
        audio = open_audio(source, name, stream=options.stream)
        return tagger.tag(audio, **options.choice, on_progress=on_progress)

    return tag


def check_times(options: Options, model: str, has_frame_scores: bool) -> None:
    """Raise if the times of tags are asked for, and the model has none."""
    if options.tag_format.requires_times and not has_frame_scores:
        what = "--frames" if options.frames else "--segments or label tracks"
        raise OptionError(f"the model {model!r} scores whole clips only, so there are no {what}")


def load_tagger(options: Options) -> Tagger:
    """Load the model and its embedder, and log which embedder was chosen if that was left open."""
    tagger = Tagger.load(
        DEFAULT_MODEL if options.model is None else options.model,
        embedder=options.embedder,
        precision=options.precision,
        device=options.device,
        force=options.force,
    )
    Choice(**options.choice).classes(tagger.bundle.labels)  # raises on unknown labels
    embedder = choose_embedder(tagger.bundle, options.embedder, force=options.force)
    reason = find_embedder(embedder, options.precision).reason
    if reason:
        options.log(reason)
    return tagger


def read_source(source: str) -> AudioSource:
    """A source that can be read twice: standard input is kept in memory."""
    if source != STDOUT or sys.stdin is None:
        return source
    return sys.stdin.buffer.read()
