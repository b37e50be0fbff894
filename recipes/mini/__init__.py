"""Recipe of the built-in embedder and of the default bundle: see `README.md`."""
