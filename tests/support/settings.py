"""Settings of the service, loaded in a given environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from unittest import mock

from service.settings import sources
from service.settings.sources import LoadedSettings


def load_settings(
    flags: Mapping[str, str], config_file: str | None = None, *, environ: Mapping[str, str]
) -> LoadedSettings:
    """Load the settings with the given environment variables and no others."""
    with mock.patch.dict(os.environ, environ, clear=True):
        return sources.load_settings(flags, config_file)
