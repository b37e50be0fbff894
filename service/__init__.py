"""The HTTP service around the tagger."""
