"""EMO-LLaMA: LLaMA-VID's two tokens per frame, plus face tokens from Face Info Mining."""
