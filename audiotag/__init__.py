"""The public API of audiotag, and its commands."""
