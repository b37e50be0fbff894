"""Embed many audio files, in order and resumably, into one file or one file each."""
