"""Training data from files of frames: AudioSet, YouTube-8M and our own."""
