# `make demo` and `make test` set up everything they need in .venv; see README.md. Without a sourced ROS 2 they use the
# wheels of Jazzy, or of Kilted with `make test ROS_WHEELS=kilted`.
.PHONY: demo test lint setup clean

# ROS 2 from wheels finds its interfaces through the ament index of the virtual environment.
ifeq ($(ROS_DISTRO),)
export AMENT_PREFIX_PATH := $(CURDIR)/.venv
endif
# No code path may reach for a model hub behind the user's back.
export HF_HUB_OFFLINE := 1
# Messages refuse what those of Humble refuse, e.g. an int for a float field.
test: export ROS_PYTHON_CHECK_FIELDS := 1

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
