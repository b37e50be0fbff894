"""The rest of a body that is refused: read and forgotten, so that the answer is heard."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope

# Most clients read the answer only when all of their body is sent; an endless one is cut off.
DISCARD_SECONDS = 10.0


class Body:
    """Reads the body of a request, and knows whether it has come to its end."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self._receive = receive
        self._is_complete: bool = scope["type"] != "http"
        # Such a client sends its body only when it is told to go on.
        self._waits = "expect" in Headers(scope=scope)
        self._has_begun = False

    async def receive(self) -> Message:
        """The next message, as the application gets it."""
        self._has_begun = True
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._is_complete = True
        return message

    async def discard(self, seconds: float = DISCARD_SECONDS) -> bool:
        """Read the rest and forget it; whether that was the end of it in time."""
        if self._waits and not self._has_begun:
            return self._is_complete
        with anyio.move_on_after(seconds):
            while not self._is_complete:
                await self.receive()
        return self._is_complete
