"""Protection against pages of other sites."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import Scope

from service.problems import Problem
from service.settings.config import ServiceConfig

_UNSAFE_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_origin(scope: Scope, config: ServiceConfig) -> None:
    """Raise Problem for a request from a page that is neither ours nor of an allowed origin.

    A browser lets any page submit a form or open a WebSocket to any host. It sends the origin of
    the page along.
    """
    headers = Headers(scope=scope)
    origin = headers.get("origin")
    if scope["type"] == "http" and scope["method"] not in _UNSAFE_METHODS:
        return
    if origin is None or headers.get("sec-fetch-site") == "same-origin":
        return  # not a browser, or one that has compared the origins itself
    scheme, _, netloc = origin.lower().partition("://")
    port = _DEFAULT_PORTS.get(scheme, "")
    host = headers.get("host", "").lower()
    is_own = bool(host) and netloc.removesuffix(port) == host.removesuffix(port)
    if not is_own and {"*", origin.lower()}.isdisjoint(config.cors_origins):
        raise Problem(
            "forbidden",
            "the request comes from a page of another site; to allow it, add its origin to "
            "cors_origins. A proxy in front of the service must pass on the header Host",
        )
