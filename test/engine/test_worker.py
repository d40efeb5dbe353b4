import gc
from multiprocessing import Pipe

import pytest

from emo_llama_ros.engine.api import EngineState
from emo_llama_ros.engine.worker import PipeSink


@pytest.fixture
def thawed():
    yield
    gc.unfreeze()


@pytest.mark.parametrize("state", list(EngineState))
def test_garbage_collection_leaves_a_loaded_model_alone(state, thawed):
    here, there = Pipe()
    frozen = gc.get_freeze_count()
    PipeSink(there).on_state(state, "", None)
    assert here.recv() == ("state", state, "", None)
    assert (gc.get_freeze_count() > frozen) == (state is EngineState.READY)
