"""The machine around a backend: frames go in without waiting, estimates come out by callback."""
