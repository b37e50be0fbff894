"""The connection of `audiotag classify` to a service: its key, its model, its labels."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from classifier.bundles.files import quoted
from classifier.tags.choice import Choice
from service.client.client import Client
from service.documents import ServiceModel
from vggish.errors import OptionError, ServiceError

# All users of a machine can read its command lines, so there is no option for the key.
KEY_VARIABLE = "AUDIOTAG_API_KEY"

_KEY_HINT = f"Set the key in the environment variable {KEY_VARIABLE}, or with --api-key-file FILE"


def read_key(path: str | None) -> str | None:
    """Read the API key from a file, or from the environment if `path` is None.

    Raises:
        OptionError: the file cannot be read, or does not contain exactly one key.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
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


def open_service(
    stack: ExitStack,
    url: str,
    api_key: str | None,
    model: str | None,
    choice: Mapping[str, Any],
) -> tuple[Client, ServiceModel]:
    """Connect to a service, and check the model and the labels before any audio is sent.

    Args:
        stack: closes the client.
        url: address of the service.
        api_key: API key; None if there is none.
        model: name of the model; None for the service's default.
        choice: keyword arguments of `Choice`.

    Raises:
        ServiceError: the service refuses, or is not an audiotag service.
        OptionError: the service has no such model, or the model has no such label.
    """
    client = stack.enter_context(Client(url, api_key=api_key))
    try:
        models = client.models()
    except ServiceError as error:
        if error.status in (401, 403):
            error.args = (f"{error}\n{_KEY_HINT}",)
        raise
    chosen = [each for each in models if (each.is_default if model is None else each.name == model)]
    if not chosen:
        raise OptionError(
            f"the service has no model {model!r}; it has {quoted([each.name for each in models])}"
        )
    if choice["labels"] or choice["exclude_labels"]:
        Choice(**choice).classes(client.labels(chosen[0].name))
    return client, chosen[0]
