"""Training data from audio: lists of labelled recordings, embedded once and cached."""
