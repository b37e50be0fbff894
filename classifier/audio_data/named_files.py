"""Find the audio files that a list names, without suffix or with the separators of Windows."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path, PureWindowsPath

from vggish.audio.decoders import AUDIO_SUFFIXES
from vggish.errors import OptionError


class NamedFiles:
    """Finds the files that a list names; relative names start from `root`."""

    def __init__(self, root: Path) -> None:
        # Without "..", so that a clip has one name however the list refers to it.
        self.root = Path(os.path.normpath(root))
        self._by_stem: dict[Path, Mapping[str, Sequence[Path]]] = {}

    def find(self, name: str, where: str) -> Path:
        """The file of a name: as written, else with the separators of Windows, else with a suffix.

        A path of a file that does not exist if there is none. Raises an `OptionError` that begins
        with `where` if several files differ from the name only in their suffix.
        """
        spellings = dict.fromkeys((name, PureWindowsPath(name).as_posix()))
        paths = [Path(os.path.normpath(self.root / spelling)) for spelling in spellings]
        for path in paths:
            if path.is_file():
                return path
        for path in paths:
            found = self._stems(path.parent).get(path.name, ())
            if len(found) > 1:
                names = ", ".join(file.name for file in found)
                raise OptionError(f"{where}: {name!r} may be {names}; write the suffix in the list")
            if found:
                return found[0]
        return paths[-1]

    def _stems(self, folder: Path) -> Mapping[str, Sequence[Path]]:
        """Audio files of a folder by their names without suffix."""
        if folder not in self._by_stem:
            stems: dict[str, list[Path]] = {}
            for path in sorted(folder.iterdir()) if folder.is_dir() else ():
                stem, suffix = os.path.splitext(path.name)
                if suffix.lower() in AUDIO_SUFFIXES and path.is_file():
                    stems.setdefault(stem, []).append(path)
            self._by_stem[folder] = stems
        return self._by_stem[folder]
