import re
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


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
    from emo_llama_ros.fetch import media_file

    def find(name: str) -> Path:
        try:
            return media_file(name)
        except MissingModel as error:
            pytest.skip(str(error))

    return find


@pytest.fixture(scope="session")
def tiny_checkpoints(tmp_path_factory):
    """Folders of random tiny EMO-LLaMAs with real tokenizers; see test/model/tiny_checkpoint.py."""
    pytest.importorskip("torch", reason="needs the 'model' extra")
    sys.path.insert(0, str(REPOSITORY / "test" / "model"))
    from tiny_checkpoint import TinyCheckpoints

    return TinyCheckpoints(tmp_path_factory.mktemp("checkpoints"))
