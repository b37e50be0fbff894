"""Recipes of the bundles and the embedder that audiotag includes."""
