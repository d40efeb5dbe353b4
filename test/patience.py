"""How long tests wait. Speed is shown by benchmarks: a test bounds only what would otherwise wait for ever."""

PATIENCE_S = 100.0
"""For what must come; a machine that is ten times too busy still makes it."""

HANG_S = 180.0
"""For a test that pytest-timeout could not end in its time, since it hangs in C."""
