"""What stands in the way of a run, said before anything is loaded: of the options (`preflight`), of the machine."""
