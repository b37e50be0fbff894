"""Paths of the repository, its clips and the development data."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "weights" / "clips"
SHARED_DATA = ROOT.parent / "shared" / "data"
