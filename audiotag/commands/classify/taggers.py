"""Taggers of the command line: a bundle on this machine, or a running service."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

from audiotag.commands.classify.options import Options
from audiotag.commands.options import option_name
from audiotag.terminal.stdout import STDOUT
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

# Options that the service decides on, with their defaults.
_LOCAL_OPTIONS = {"embedder": "auto", "precision": None, "device": "auto", "force": False}


def local_tagger(options: Options) -> TagFn:
    """A tagger on this machine."""
    tagger = load_tagger(options)
    _check_times(options, tagger.bundle.name, tagger.bundle.has_frame_scores)

    def tag(source: AudioSource, on_progress: OnAudioProgress) -> ClipTags:
        audio = open_audio(source, source_name(STDOUT)) if isinstance(source, bytes) else source
        return tagger.tag(audio, **options.choice, on_progress=on_progress)

    return tag


def remote_tagger(options: Options, stack: contextlib.ExitStack) -> TagFn:
    """A tagger that sends clips to a service; the stack closes its connection."""
    # httpx takes 60 ms to import.
    from audiotag.commands.classify.remote import open_service, read_key

    for name, default in _LOCAL_OPTIONS.items():
        if getattr(options, name) != default:
            raise OptionError(
                f"with --server the service decides on {option_name(name)}; leave it out"
            )
    assert options.server is not None
    client, model = open_service(
        stack, options.server, read_key(options.api_key_file), options.model, options.choice
    )
    _check_times(options, model.name, model.has_frame_scores)

    def tag(source: AudioSource, on_progress: OnAudioProgress) -> ClipTags:
        tags: ClipTags = client.classify(
            source,
            model=model.name,
            **options.choice,
            frames=options.tag_format.frames,
            segments=options.tag_format.shows_times and model.has_frame_scores,
            tracks=options.plot is not None and model.has_frame_scores,
        )
        on_progress(tags.duration_seconds, tags.duration_seconds)
        return tags

    return tag


def _check_times(options: Options, model: str, has_frame_scores: bool) -> None:
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
