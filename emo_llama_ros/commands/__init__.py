"""One module for each subcommand of `emo_llama`: its arguments, and a body that imports the real work when it runs."""
