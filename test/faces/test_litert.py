"""The runner of the face networks."""

import subprocess
import sys

import pytest

from emo_llama_ros.faces.blazeface import NEAR_NETWORK_FILE


@pytest.mark.usefixtures("analyzer")
def test_a_network_is_made_without_a_word_and_without_losing_those_of_others():
    program = f"""
import os, warnings
from emo_llama_ros.faces.litert import LiteRtNetwork
from emo_llama_ros.install.fetch import model_file
import ai_edge_litert.interpreter as library

made = library.Interpreter
def make(**arguments):
    os.write(2, b"said meanwhile\\n")
    return made(**arguments)
library.Interpreter = make
for _ in range(2):
    LiteRtNetwork(model_file("{NEAR_NETWORK_FILE}"))
os.write(2, b"said after\\n")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == ["said meanwhile", "said meanwhile", "said after"]
