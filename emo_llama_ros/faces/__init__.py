"""Faces in a frame: detection, landmarks, pose, quality, expression readings, measured evidence, tracks."""
