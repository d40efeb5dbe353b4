"""What can answer a clip. One Protocol (`backend`), one module per backend, chosen by name in `registry`."""
