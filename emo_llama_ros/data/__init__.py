"""Labelled faces and instruction records."""
