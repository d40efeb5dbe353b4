"""EMO-LLaMA: LLaMA-VID's two tokens per frame, plus face tokens from Face Info Mining."""

import logging
import os

# Models come from folders that the user names: nothing is fetched from a hub behind anyone's back. The libraries read
# this when they are first imported, which for the modules of this package is after this line.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# bitsandbytes advises to install a package that would fetch its CPU kernels from the hub.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
