"""Benchmark of the HTTP service under load."""
