"""Processes, workers and sockets of the server."""
