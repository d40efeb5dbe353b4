"""How long tests wait. Speed is shown by benchmarks: a test bounds only what would otherwise wait for ever."""

PATIENCE_S = 100.0
"""For what must come; a machine that is ten times too busy still makes it."""

HANG_S = 480
"""For a whole test. pytest-timeout ends one at 300 s where Python still runs; what hangs in C is ended by this."""
