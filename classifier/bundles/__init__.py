"""Bundles: a head with its labels and metadata, and calibrated scores."""
