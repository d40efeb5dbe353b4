"""What is brought onto a machine once: the face networks and the sample media, pinned and checked."""
