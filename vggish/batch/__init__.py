"""Embed many files: in order, resumable, into one file or many."""
