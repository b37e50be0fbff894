"""Check the health of the service in this container: exit status 0 or 1, the reason on stdout.

Requests `GET /healthz`, which needs no key, on AUDIOTAG_PORT. Set another port with that variable,
since the check does not know flags and settings files.
"""

from __future__ import annotations

import http.client
import os
import sys

DEFAULT_PORT = 8000
TIMEOUT_SECONDS = 5


def main() -> int:
    """Request /healthz and return the exit status."""
    port = int(os.environ.get("AUDIOTAG_PORT") or DEFAULT_PORT)  # an empty variable is ignored
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz")
        answer = connection.getresponse()
        print(answer.status, answer.read(200).decode(errors="replace"))
    except (OSError, http.client.HTTPException) as error:
        print(f"no response on port {port}: {error!r}")
        return 1
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
