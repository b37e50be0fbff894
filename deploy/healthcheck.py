"""Whether the service in this container is alive: exit status 0 or 1, and why on stdout.

It asks `GET /healthz` on AUDIOTAG_PORT, which needs no key. Another port must be set there, not
in a settings file or by a flag, if the container is to count as healthy.
"""

from __future__ import annotations

import http.client
import os
import sys

DEFAULT_PORT = 8000
TIMEOUT_SECONDS = 5


def main() -> int:
    """Ask."""
    port = int(os.environ.get("AUDIOTAG_PORT") or DEFAULT_PORT)  # empty, it sets nothing
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        print(answer.status, answer.read(200).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer on port {port}: {error!r}")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
