"""What commands share about the terminal: stdout, stderr, progress bars, signals."""
