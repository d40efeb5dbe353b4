"""What backends say of themselves, which preflight, doctor and evaluation go by."""

import subprocess
import sys

import pytest

from emo_llama_ros.backends.registry import declaration, make_backend
from emo_llama_ros.checks import extras
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.faces.make import analyzer_declaration
from emo_llama_ros.labels import LABEL_SETS
from emo_llama_ros.options import Options, specs

NAMES = specs()["backend"].choices


@pytest.mark.parametrize("name", NAMES)
def test_every_choice_of_the_option_is_a_declared_backend(name):
    declared = declaration(Options(backend=name))
    assert declared.name == name
    assert declared.label_sets
    assert set(declared.label_sets) <= set(LABEL_SETS)
    assert bool(declared.packages) == bool(declared.extra), "what is needed has an extra that brings it"
    assert {specs()[option].group for option in declared.options} <= {"model"}


def test_the_light_backend_takes_the_label_sets_that_it_declares_and_no_other():
    for name in LABEL_SETS:
        options = Options(backend="expression", label_set=name)
        if name in declaration(options).label_sets:
            make_backend(options)
        else:
            with pytest.raises(BadParameter, match="label set"):
                make_backend(options)


def test_declarations_are_read_without_the_packages_of_the_backends():
    code = (
        "import sys; from emo_llama_ros.options import Options;"
        "from emo_llama_ros.backends.registry import declaration;"
        f"[declaration(Options(backend=name)) for name in {NAMES}]; print('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


@pytest.mark.parametrize("name", specs()["analyzer"].choices)
def test_every_choice_of_the_option_is_a_declared_analyzer(name):
    declared = analyzer_declaration(Options(analyzer=name))
    assert declared.name == name
    assert {declared.folder} <= {"", *specs()}
    assert {declared.extra} <= {"", *extras._MODULES}
