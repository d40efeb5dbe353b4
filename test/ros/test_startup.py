"""Every way to start the programs of this package, as pip and colcon install them."""

import os
import signal
import subprocess
import sys
import time

import pytest
from patience import PATIENCE_S

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.usefixtures("ros")


def console_scripts(repository):
    return tomllib.loads((repository / "pyproject.toml").read_text())["project"]["scripts"]


def started(command, repository, **environment):
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip


def as_pip_starts_it(entry):
    """Return the command that pip's console script amounts to."""
    module, function = entry.split(":")
    return [sys.executable, "-c", f"import sys; from {module} import {function}; sys.exit({function}())"]


@pytest.mark.parametrize("name", ["emo_llama", "emo_llama_node"])
def test_every_console_script_starts(repository, name):
    assert set(console_scripts(repository)) == {"emo_llama", "emo_llama_node"}, "the test knows them all"
    installed = {
        f.name for f in (repository / "scripts").iterdir() if f.read_text().startswith("#!/usr/bin/env python")
    }
    assert installed == set(console_scripts(repository)), "pip and colcon install the same"
    for command in (as_pip_starts_it(console_scripts(repository)[name]), [sys.executable, f"scripts/{name}"]):
        done = started([*map(str, command), "--help"], repository)
        assert done.returncode == 0, done.stderr
        assert "usage" in done.stdout.lower()
        assert not done.stderr


def test_a_middleware_that_is_missing_is_one_sentence_for_the_node_and_the_command(repository):
    for entry, arguments in (("emo_llama_node", []), ("emo_llama", ["run"]), ("emo_llama", ["demo"])):
        command = [*as_pip_starts_it(console_scripts(repository)[entry]), *arguments]
        done = started(command, repository, RMW_IMPLEMENTATION="rmw_none_cpp")
        assert done.returncode == 1
        assert "RMW_IMPLEMENTATION is rmw_none_cpp, which is not installed (there is rmw_" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_an_rclpy_that_cannot_be_loaded_is_one_sentence(repository, tmp_path):
    (tmp_path / "rclpy.py").write_text("raise ImportError('librcl.so: cannot open shared object file')")
    for entry, arguments in (("emo_llama_node", []), ("emo_llama", ["run"])):
        command = as_pip_starts_it(console_scripts(repository)[entry])
        command[2] = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); {command[2]}"
        done = started([*command, *arguments], repository)
        assert done.returncode == 1
        assert "librcl.so: cannot open shared object file" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_ctrl_c_in_the_first_moments_shows_no_traceback(repository):
    command = as_pip_starts_it(console_scripts(repository)["emo_llama_node"])
    path = os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])
    for moment in (0.3, 0.6):
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**os.environ, "PYTHONPATH": path}
        )
        time.sleep(moment)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert "Traceback" not in output or (moment < 0.5 and "emo_llama_ros" not in output), output


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (
            "failed to initialize rcl: Couldn't parse params file: 'x'. Error: Error at line 2, at ./src/parse.c:7, "
            "at ./src/rcl/arguments.c:4",
            "Couldn't parse params file: 'x'. Error: Error at line 2.",
        ),
        ("two\n  lines", "two lines."),
        ("", "str"),
    ],
)
def test_what_rcl_says_becomes_one_line_without_the_places_in_its_source(said, sentence):
    from emo_llama_ros.ros.environment import one_sentence

    assert one_sentence(said) == sentence
