"""The commands of `audiotag`, one module each; `cli` imports the one that runs."""
