"""A service in the place of a tagger, as the command line uses it: found, with a key, checked."""

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

# A key on the command line could be read by everybody on the machine.
KEY_VARIABLE = "AUDIOTAG_API_KEY"

_KEY_HINT = f"A key is taken from the environment variable {KEY_VARIABLE}, or --api-key-file FILE"


def read_key(path: str | None) -> str | None:
    """The key for a service: the only line of a file, else that of the environment, if any.

    Raises:
        OptionError: the file cannot be read, or holds no key.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE, "").strip() or None
    try:
        lines = Path(path).read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise OptionError(f"cannot read the key in {path}: {reason}") from error
    if len(lines) != 1:
        raise OptionError(
            f"{path} must hold one key and nothing else. Received: {len(lines)} words"
        )
    return lines[0]


def open_service(
    stack: ExitStack,
    url: str,
    api_key: str | None,
    model: str | None,
    choice: Mapping[str, Any],
) -> tuple[Client, ServiceModel]:
    """Connect to a service, and see that it can do what is wanted before any sound is sent.

    Args:
        stack: closes the client.
        url: of the service.
        api_key: for it, if it wants one.
        model: that shall listen; None for the one that the service takes by default.
        choice: which tags are wanted, see `Choice`.

    Raises:
        ServiceError: it refuses, or is no service of audiotag.
        OptionError: it has no such model, or that knows no such label.
    """
    client = stack.enter_context(Client(url, api_key=api_key))
    try:
        models = client.models()
    except ServiceError as error:
        if error.status in (401, 403):
            error.args = (f"{error}\n{_KEY_HINT}",)
        raise
    chosen = [
        found for found in models if (found.is_default if model is None else found.name == model)
    ]
    if not chosen:
        raise OptionError(
            f"the service has no model {model!r}; it has {quoted([found.name for found in models])}"
        )
    if choice["labels"] or choice["exclude_labels"]:
        Choice(**choice).classes(client.labels(chosen[0].name))
    return client, chosen[0]
