"""`audiotag classify`."""
