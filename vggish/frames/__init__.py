"""Frames of clips, and the file formats that hold them."""
