"""Where tags come from: a bundle on this machine, or a running service."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from audiotag.commands.options import option_name
from audiotag.terminal.stderr import print_status
from audiotag.terminal.stdout import STDOUT
from vggish.errors import OptionError

if TYPE_CHECKING:
    from classifier.output.formats import TagFormat
    from classifier.tagger import Tagger
    from classifier.tags.types import ClipTags
    from vggish.extractor import OnAudioProgress


if TYPE_CHECKING:
    Sound = str | bytes

if TYPE_CHECKING:
    Listen = Callable[[Sound, OnAudioProgress | None], ClipTags]


def local_tagger(
    options: argparse.Namespace, content: TagFormat, stack: contextlib.ExitStack
) -> Listen:
    """What tags sounds on this machine."""
    from vggish.audio.sources import source_name
    from vggish.audio.stream import open_audio

    tagger = load_tagger(options)
    _refuse_times(tagger.bundle.name, content, tagger.bundle.has_frame_scores)

    def listen(source: Sound, on_progress: OnAudioProgress | None) -> ClipTags:
        sound = open_audio(source, source_name(STDOUT)) if isinstance(source, bytes) else source
        return tagger.tag(sound, **tag_options(options), on_progress=on_progress)

    return listen


def remote_tagger(
    options: argparse.Namespace, content: TagFormat, stack: contextlib.ExitStack
) -> Listen:
    """What has sounds tagged by a service."""
    from audiotag.commands.classify.remote import open_service, read_key

    usual = {"embedder": "auto", "precision": None, "device": "auto", "force": False}
    for option, value in usual.items():
        if getattr(options, option) != value:
            raise OptionError(
                f"with --server it is the service that decides on {option_name(option)}; leave it out"
            )
    client, model = open_service(
        stack, options.server, read_key(options.api_key_file), options.model, tag_options(options)
    )
    _refuse_times(model.name, content, model.has_frame_scores)
    wanted = {
        **tag_options(options),
        "model": model.name,
        "frames": content.frames,
        "segments": content.shows_times and model.has_frame_scores,
        "tracks": options.plot is not None and model.has_frame_scores,
    }

    def listen(source: Sound, on_progress: OnAudioProgress | None) -> ClipTags:
        tags: ClipTags = client.classify(source, **wanted)
        if on_progress is not None:
            on_progress(tags.duration_seconds, tags.duration_seconds)
        return tags

    return listen


def tag_options(options: argparse.Namespace) -> dict[str, Any]:
    names = ("top_k", "threshold", "labels", "exclude_labels")
    return {name: getattr(options, name) for name in names}


def _refuse_times(model: str, content: TagFormat, has_frame_scores: bool) -> None:
    if content.requires_times and not has_frame_scores:
        what = "--frames" if content.frames else "--segments or label tracks"
        raise OptionError(f"the model {model!r} scores whole clips only, so there are no {what}")


def load_tagger(options: argparse.Namespace) -> Tagger:
    """The model and its embedder; says which embedder it is where that was left to audiotag."""
    from classifier.tagger import DEFAULT_MODEL, Tagger, choose_embedder
    from classifier.tags.choice import Choice
    from vggish.embedders.choice import find_embedder

    tagger = Tagger.load(
        DEFAULT_MODEL if options.model is None else options.model,
        embedder=options.embedder,
        precision=options.precision,
        device=options.device,
        force=options.force,
    )
    Choice(**tag_options(options)).classes(tagger.bundle.labels)  # refuses unknown ones now
    wanted = choose_embedder(tagger.bundle, options.embedder, force=options.force)
    reason = find_embedder(wanted, options.precision).reason
    if reason:
        print_status(options, reason)
    return tagger


def read_source(source: str) -> Sound:
    """A sound that can be read twice: what comes from a pipe is kept in memory."""
    if source != STDOUT or sys.stdin is None:
        return source
    return sys.stdin.buffer.read()
