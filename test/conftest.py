import faulthandler
import os
import re
import sys
from pathlib import Path

import pytest
import pytest_timeout

pytest_plugins = ["face_fixtures"]

REPOSITORY = Path(__file__).resolve().parent.parent
STACKS = pytest.StashKey()
sys.path.insert(0, str(REPOSITORY / "test"))

from patience import HANG_S

# Many tests start a Python of their own, and each would compile the package anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


def pytest_configure(config):
    # What capturing does to stderr must not hide the stacks of a hang.
    with config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        config.stash[STACKS] = os.fdopen(os.dup(2), "w")


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item):
    """End the run, with the stacks of all threads, where a test hangs.

    pytest-timeout fails a hanging test from a signal's handler, which waits for C code to return. The watchdog of
    faulthandler is a C thread that needs neither signals nor the GIL, so that nothing can hang past it.
    """
    own = item.get_closest_marker("timeout")
    limit_s = own.args[0] if own else pytest_timeout.get_env_settings(item.config).timeout
    if limit_s:  # 0 is no limit
        faulthandler.dump_traceback_later(limit_s + HANG_S, exit=True, file=item.config.stash[STACKS])
    try:
        return (yield)
    finally:
        faulthandler.cancel_dump_traceback_later()


def pytest_enter_pdb():
    # --pdb, --trace or breakpoint(): whoever debugs may take their time, up to the next test.
    faulthandler.cancel_dump_traceback_later()


def pytest_unconfigure(config):
    # Threads and middleware that never end keep the interpreter from ending.
    faulthandler.dump_traceback_later(HANG_S, exit=True, file=config.stash[STACKS])


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the source tree."""
    return REPOSITORY


@pytest.fixture(scope="session")
def msg_fields():
    """Return the field names of a message of this package, read from its file."""

    def read(name: str) -> list[str]:
        lines = (REPOSITORY / "msg" / f"{name}.msg").read_text().splitlines()
        fields = [re.match(r"[\w/]+(?:\[\])?\s+(\w+)\s*(?:#|$)", line) for line in lines]
        return [match.group(1) for match in fields if match]

    return read


@pytest.fixture(scope="session")
def media():
    """Return the path of a real video or picture by name; skip where `emo_llama fetch --media` was not run."""
    from emo_llama_ros.errors import MissingModel
    from emo_llama_ros.install.fetch import media_file

    def find(name: str) -> Path:
        try:
            return media_file(name)
        except MissingModel as error:
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def analyzer():
    """The embedded analyzer; skip where `emo_llama fetch` was not run."""
    from emo_llama_ros.errors import MissingDependency, MissingModel
    from emo_llama_ros.faces.embedded import EmbeddedAnalyzer
    from emo_llama_ros.options import Options

    try:
        return EmbeddedAnalyzer(Options())
    except (MissingModel, MissingDependency) as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory):
    """Folders of random tiny EMO-LLaMAs with real tokenizers; see test/model/tiny_checkpoint.py."""
    pytest.importorskip("torch", reason="needs the 'model' extra")
    sys.path.insert(0, str(REPOSITORY / "test" / "model"))
    from tiny_checkpoint import TinyCheckpoints

    return TinyCheckpoints(tmp_path_factory.mktemp("checkpoints"))


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoints):
    """Return the folder of a random tiny EMO-LLaMA that reads the real facial priors, by quantization and vision."""
    from dataclasses import replace

    import torch
    from tiny_checkpoint import write_ours

    from emo_llama_ros.evidence.priors import EVIDENCE_NAMES
    from emo_llama_ros.model.loading import load_model

    torch.set_num_threads(1)

    def make(quantization="none", vision=True, scope="frame", evidence_note=False):
        folder = tiny_checkpoints.root / f"priors-{quantization}-{vision:d}-{scope}-{evidence_note:d}"
        if folder.exists():
            return folder
        if quantization != "none":
            pytest.importorskip("bitsandbytes")
            model, _ = load_model(make("none", vision, scope, evidence_note), quantization=quantization, device="cpu")
        else:
            config = tiny_checkpoints.config(vision=vision)
            face = replace(
                config.face,
                embedding_dim=128,
                embedding_is_map=False,
                global_tokens=2,
                evidence_dim=len(EVIDENCE_NAMES),
                scope=scope,
            )
            model = tiny_checkpoints.model(replace(config, face=face, evidence_note=evidence_note))
        write_ours(model, folder)
        return folder

    return make
