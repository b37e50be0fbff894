"""Shared test support: synthetic data, fake servers, fixtures."""
