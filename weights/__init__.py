"""Data only: the manifest of known weights, and the recordings that calibrate int8."""
