"""Embedders: VGGish and mini, installed and chosen by name."""
