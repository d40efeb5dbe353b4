"""People over time: tracks, baselines, and one window of frames per person."""
