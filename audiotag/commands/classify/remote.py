"""The tagger of `audiotag classify --server`: a running service."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from audiotag.commands.classify.options import Options
from audiotag.commands.classify.taggers import AudioSource, TagFn, check_times
from audiotag.commands.options import option_name
from classifier.bundles.files import quoted
from classifier.tags.choice import Choice
from classifier.tags.types import ClipTags
from service.client.client import Client
from service.documents import ServiceModel
from vggish.errors import OptionError, ServiceError
from vggish.extractor import OnAudioProgress

# All users of a machine can read its command lines, so there is no option for the key.
_KEY_VARIABLE = "AUDIOTAG_API_KEY"

# Options that the service decides on, with their defaults.
_LOCAL_OPTIONS = {"embedder": "auto", "precision": None, "device": "auto", "force": False}


def remote_tagger(options: Options, stack: ExitStack) -> TagFn:
    """A tagger that sends clips to a service; the stack closes its connection.

    The model and the labels are checked before any audio is sent.
    """
    for name, default in _LOCAL_OPTIONS.items():
        if getattr(options, name) != default:
            raise OptionError(
                f"with --server the service decides on {option_name(name)}; leave it out"
            )
    assert options.server is not None
    api_key = _read_key(options.api_key_file)
    client = stack.enter_context(Client(options.server, api_key=api_key))
    model = _find_model(client, options.model)
    if options.labels or options.exclude_labels:
        Choice(**options.choice).classes(client.labels(model.name))  # raises on unknown labels
    check_times(options, model.name, model.has_frame_scores)

    def tag(source: AudioSource, on_progress: OnAudioProgress) -> ClipTags:
        tags: ClipTags = client.classify(
            source,
            model=model.name,
            stream=options.stream,
            **options.choice,
            frames=options.tag_format.frames,
            segments=options.tag_format.shows_times and model.has_frame_scores,
            tracks=options.plot is not None and model.has_frame_scores,
        )
        on_progress(tags.duration_seconds, tags.duration_seconds)
        return tags

    return tag


def _read_key(path: str | None) -> str | None:
    if path is None:
        return os.environ.get(_KEY_VARIABLE, "").strip() or None
    try:
        words = Path(path).read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        raise OptionError(f"cannot read the key in {path}: {reason}") from error
    if len(words) != 1:
        raise OptionError(
            f"{path} must contain one key and nothing else. Received: {len(words)} words"
        )
    return words[0]


def _find_model(client: Client, name: str | None) -> ServiceModel:
    """The model of a name, or the default one of the service."""
    try:
        models = client.models()
    except ServiceError as error:
        if error.status in (401, 403):
            error.args = (
                f"{error}\nSet the key in the environment variable {_KEY_VARIABLE}, or with "
                "--api-key-file FILE",
            )
        raise
    for model in models:
        if model.is_default if name is None else model.name == name:
            return model
    raise OptionError(
        f"the service has no model {name!r}; it has {quoted([model.name for model in models])}"
    )
