"""Tags of a clip and of its frames: types, selection, segments, long recordings."""
