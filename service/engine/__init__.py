"""The resources of a running service: models, threads, batches, temporary files."""
