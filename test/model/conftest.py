import dataclasses
import os
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")
# On tiny models a second thread costs more than it brings, and twenty times more on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def golden_folder() -> Path:
    """Numbers of the original LLaMA-VID at a tiny size; not part of the repository."""
    default = Path(__file__).resolve().parents[3] / "shared" / "golden" / "llama_vid_tiny"
    folder = Path(os.environ.get("EMO_LLAMA_GOLDEN", default))
    if not (folder / "io.safetensors").is_file():
        pytest.skip("needs the golden LLaMA-VID numbers: set EMO_LLAMA_GOLDEN to their folder")
    return folder


@pytest.fixture(scope="session")
def build_model():
    """Build a random tiny model, the same for the same arguments; `face_changes` replaces fields of its FaceConfig."""
    from emo_llama_ros.model.configuration import emo_llama_tiny
    from emo_llama_ros.model.modeling import EmoLlama

    def build(*, vision=True, face=True, face_changes=None, **changes):
        config = dataclasses.replace(emo_llama_tiny(vision=vision, face=face), **changes)
        if face_changes:
            config = dataclasses.replace(config, face=dataclasses.replace(config.face, **face_changes))
        torch.manual_seed(0)
        model = EmoLlama(config)
        with torch.no_grad():
            for parameter in model.parameters():  # large enough for attention not to be uniform
                parameter.normal_(std=0.2)
        return model

    return build


@pytest.fixture
def make_priors():
    """Make random face priors that fit the tiny presets, for frames that show a face or not."""
    from emo_llama_ros.model.face_mining import FacePriors

    def make(valid, *, is_map=True, seed=0):
        random = torch.Generator().manual_seed(seed)
        count = len(valid)
        shape = (count, 16, 6, 6) if is_map else (count, 16)
        return FacePriors(
            torch.tensor(valid, dtype=torch.bool),
            torch.randn(shape, generator=random),
            torch.rand(count, 68, 2, generator=random) * 2 - 1,
            torch.randn(count, 7, generator=random),
        )

    return make
