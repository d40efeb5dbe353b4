"""Training of emo-eyes, the facial analysis network of this package, on faces that people voted about."""
