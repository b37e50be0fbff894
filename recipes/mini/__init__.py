"""The recipe of the built-in embedder and of the default bundle. See `README.md`."""
