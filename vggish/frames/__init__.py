"""Clips of frames, and the files that hold them."""
