"""Find all audio in a file, also where its header gives a wrong length.

Decoders trust the header: they end where it says that the audio ends. Recorders that lose power,
writers to pipes, files beyond 4 GiB and files that were joined all have headers that state too
little. `examine` compares what the header states with what the file holds, and describes the file
as links: stretches that each decode on their own, with a corrected header in front.
"""

from __future__ import annotations

from vggish.audio.containers.bytes import FileBytes, LinkFile
from vggish.audio.containers.examine import examine
from vggish.audio.containers.layout import Layout, Link

__all__ = ["FileBytes", "Layout", "Link", "LinkFile", "examine"]
