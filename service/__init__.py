"""The HTTP service around the tagger, and the client for it.

    from service import Client

    with Client("http://127.0.0.1:8000", api_key="...") as client:
        print(client.classify("clip.wav").tags)

The client needs nothing of the extra `serve`. Names are loaded when they are first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from service.client.client import AsyncClient, Client

_MODULE_OF = {"AsyncClient": "client.client", "Client": "client.client"}

__all__ = ["AsyncClient", "Client"]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'service' has no attribute {name!r}")
    return getattr(importlib.import_module(f"service.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
