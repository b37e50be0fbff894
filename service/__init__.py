"""The HTTP service around the tagger, and the client for it.

    from service import Client

    with Client("http://127.0.0.1:8000", api_key="...") as client:
        print(client.classify("clip.wav").tags)

The client needs nothing of the extra `serve`. Names are loaded when they are first used, so that
importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vggish.common.lazy import lazy_attributes

if TYPE_CHECKING:
    from service.client.client import AsyncClient as AsyncClient, Client as Client

__getattr__, __dir__, __all__ = lazy_attributes(
    __name__, {"service.client.client": ("AsyncClient", "Client")}
)
