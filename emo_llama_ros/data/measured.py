"""Write conversations from measurements alone: no service, no model, every sentence true by construction."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.data.writer import ItemFailed, Usage
from emo_llama_ros.evidence import Evidence, Phase, describe_changes, fit_sentence, movement_sentence, noun
from emo_llama_ros.evidence.clip_measures import measure
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.frames import SECOND_NS, Frame
from emo_llama_ros.options import Options
from emo_llama_ros.prompts import Turn

QUESTION = "What expression does the face show, and which facial movements show it?"
CHANGES = "What changed in the clip?"
MOST_MOVEMENTS = 4


class MeasuredWriter:
    """Words the action units that the face networks measure, under the label that people gave."""

    def __init__(self, analyzer: FaceAnalyzer, faces: Faces, options: Options) -> None:
        """Use a loaded analyzer; `faces` is DETECT or PAD."""
        self._analyzer = analyzer
        self._faces = faces
        self._options = options
        self._one_at_a_time = asyncio.Lock()

    async def converse(self, frames: Sequence[Frame], label: str) -> tuple[tuple[Turn, ...], Usage]:
        """Return the turns about `frames`; raise ItemFailed where no face is found."""
        async with self._one_at_a_time:
            clip = await asyncio.to_thread(clip_of, frames, "", self._faces, self._analyzer, self._options)
        if clip is None:
            raise ItemFailed("No face was found.")
        evidences, phases = measure(clip)
        return measured_turns(label, evidences, phases, (clip.stamp_ns - clip.start_ns) / SECOND_NS), Usage()

    async def close(self) -> None:
        """Nothing is open."""


def measured_turns(
    label: str, evidences: Sequence[Evidence], phases: Sequence[Phase], duration_s: float
) -> tuple[Turn, ...]:
    """Return one turn about a still image (`duration_s` 0), and a second one about the changes in a clip.

    The label is stated as given, without a word of certainty, because nobody measured one.
    """
    still = duration_s == 0
    strongest = sorted(evidences, key=lambda e: (-e.intensity, e.unit))[:MOST_MOVEMENTS]
    sentences = [f"The face shows {noun(label)}.", *(movement_sentence(e, still) for e in strongest)]
    if fit := fit_sentence(evidences, label):
        sentences.append(fit)
    first = Turn(QUESTION, " ".join(sentences))
    if still:
        return (first,)
    # A course that never shows the given label would contradict the first answer.
    course = phases if label in {phase.label for phase in phases} else ()
    return first, Turn(CHANGES, describe_changes(evidences, course, round(duration_s, 1)), image="none")
