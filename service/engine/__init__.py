"""What runs requests: models, threads, batches, temporary files."""
