"""Bags, videos and pictures as streams of frames, and estimates as files and pictures."""
