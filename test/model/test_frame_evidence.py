"""What a face branch reads of one frame: the units that its model knows, and no others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros.model.checkpoint import NANO, open_checkpoint
from emo_llama_ros.model.clip_priors import FRAME_EVIDENCE_NAMES, frame_evidence, frame_evidence_names
from emo_llama_ros.model.configuration import EmoLlamaConfig

LOWERED_LIP = {"mouthLowerDown": 0.4}


def _named(make_clip, units) -> dict[str, float]:
    clip = make_clip(LOWERED_LIP)
    values = frame_evidence(clip.faces[0], clip.baseline, 0.5, units)
    return dict(zip(frame_evidence_names(units), values.tolist(), strict=True))


def test_a_model_is_shown_the_units_that_it_knows_in_its_order(make_clip) -> None:
    shown = _named(make_clip, (16, 1, 6))

    assert list(shown) == ["au16", "au1", "au6", "has_baseline", "age_s"]
    assert (shown["au16"], shown["au1"], shown["has_baseline"], shown["age_s"]) == (1, 0, 1, 0.5)
    assert np.isnan(shown["au6"])  # no longer measured


def test_the_shipped_model_keeps_the_order_that_it_was_trained_with(make_clip) -> None:
    face = open_checkpoint(NANO).config.face

    assert face.units == (1, 2, 4, 5, 6, 7, 12, 15, 17, 24, 25, 26, 27, 43)
    assert face.evidence_dim == len(FRAME_EVIDENCE_NAMES) == len(face.units) + 2
    assert "au16" not in _named(make_clip, face.units)


def test_a_configuration_keeps_the_units_of_its_model() -> None:
    config = open_checkpoint(NANO).config
    other = replace(config, face=replace(config.face, units=(1, 2, 16), evidence_dim=5))

    assert EmoLlamaConfig.from_dict(other.to_dict()) == other
