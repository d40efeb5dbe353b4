# `make demo` and `make test` set up everything they need in .venv; see README.md.
.PHONY: demo test lint setup clean

# ROS 2 from wheels finds its interfaces through the ament index of the virtual environment.
ifeq ($(ROS_DISTRO),)
export AMENT_PREFIX_PATH := $(CURDIR)/.venv
endif
# No code path may reach for a model hub behind the user's back.
export HF_HUB_OFFLINE := 1

demo:
	@scripts/setup demo
	@.venv/bin/emo_llama fetch --media
	@.venv/bin/emo_llama demo

test: setup lint
	.venv/bin/emo_llama fetch --media
	.venv/bin/python -m pytest -q

lint: setup
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

setup:
	@scripts/setup test

clean:
	rm -rf .venv build install log demo
