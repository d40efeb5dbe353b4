"""The runner of the face networks."""

import subprocess
import sys

import pytest

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces.blazeface import NEAR_NETWORK_FILE
from emo_llama_ros.install.fetch import model_file

pytest.importorskip("ai_edge_litert")

PROGRAM = f"""
import os, sys
from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.install.fetch import model_file
import ai_edge_litert.interpreter as library

NETWORK = model_file("{NEAR_NETWORK_FILE}")
made = library.Interpreter
meanwhile = lambda: None
def make(**arguments):
    meanwhile()
    return made(**arguments)
library.Interpreter = make
"""


@pytest.fixture(autouse=True)
def network():
    try:
        return model_file(NEAR_NETWORK_FILE)
    except MissingModel as error:
        pytest.skip(str(error))


def run(program, **options):
    return subprocess.run([sys.executable, "-c", PROGRAM + program], text=True, check=True, **options)


def test_a_network_is_made_without_a_word_and_without_losing_those_of_others():
    program = """
def meanwhile():
    os.write(2, b"said meanwhile\\n")
    print("half a line, ", end="", file=sys.stderr, flush=True)
for _ in range(2):
    LiteRtNetwork(NETWORK)
os.write(2, b"said after\\n")
"""
    done = run(program, capture_output=True)
    said = "said meanwhile\nhalf a line, said meanwhile\nhalf a line, said after\n"
    assert done.stderr == said


def test_stderr_is_left_alone_once_a_network_was_made(tmp_path):
    program = f"""
own, seen = os.fstat(2), []
meanwhile = lambda: seen.append(os.path.samestat(os.fstat(2), own))
open({str(tmp_path / "none.tflite")!r}, "w").write("no network")
try:
    LiteRtNetwork({str(tmp_path / "none.tflite")!r})
except MissingModel:
    pass
for _ in range(3):
    LiteRtNetwork(NETWORK)
print(seen)
"""
    done = run(program, capture_output=True)
    assert done.stdout == "[False, False, True, True]\n"
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["2>&-", "2>&- >&- <&-"])
def test_a_process_whose_stderr_is_closed_makes_networks_too(tmp_path, closed):
    file = tmp_path / "made"
    program = f"""
assert sys.stderr is None
LiteRtNetwork(NETWORK)
open({str(file)!r}, "w")
"""
    (tmp_path / "program.py").write_text(PROGRAM + program)
    subprocess.run(["bash", "-c", f'"{sys.executable}" "{tmp_path / "program.py"}" {closed}'], check=True)
    assert file.exists()
