"""Tags as text: tables, CSV, JSON, label tracks, subtitles and plots."""
