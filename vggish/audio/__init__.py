"""Decode audio from any source, mix it to mono and resample it, in blocks."""
