"""The light backend: the expression network over a whole clip, and evidence that was measured, not imagined.

No language model: a few microseconds per clip, for robots with little power to spare and as a yardstick for the
others. Its network looks at single faces; this module weighs the faces of a clip, calibrates the result, and words the
measured action units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from emo_llama_ros import calibration
from emo_llama_ros.backends.backend import Declaration, LabelAnswer, ModelInfo
from emo_llama_ros.errors import BadParameter
from emo_llama_ros.estimate import ActionUnit, Status
from emo_llama_ros.evidence import UNITS, Evidence, describe, phases_of
from emo_llama_ros.evidence.action_units import measured_units
from emo_llama_ros.evidence.clip_measures import clip_affect, clip_scores, good_readings
from emo_llama_ros.frames import SECOND_NS
from emo_llama_ros.labels import CONTEMPT, LABEL_SETS, RAF_DB, label_set
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip

DISPLAYS = (*RAF_DB.labels, CONTEMPT)
"""What an expression network may tell apart."""


class ExpressionBackend:
    """Labels a clip by the recency-weighted mean of the expression network's log-probabilities."""

    def __init__(self, options: Options) -> None:
        self._labels = label_set(options.label_set)
        unknown = set(self._labels.labels) - set(DISPLAYS)
        if unknown:
            raise BadParameter(
                f"The expression backend cannot tell {', '.join(sorted(unknown))} of the label set "
                f"'{options.label_set}'; choose one of {', '.join(DECLARATION.label_sets)}."
            )
        self._options = options
        self._info: ModelInfo | None = None
        self._calibration = calibration.IDENTITY

    @property
    def info(self) -> ModelInfo:
        if self._info is None:
            raise RuntimeError("The backend is not loaded.")
        return self._info

    def load(self) -> None:
        # emo-eyes gives calibrated probabilities; a file calibrates another network, or what a clip of frames makes.
        path = self._options.calibration_file
        self._calibration = calibration.load(Path(path).expanduser(), self._labels) if path else calibration.IDENTITY
        network = Path(self._options.expression_model).stem or "emo-eyes"
        self._info = ModelInfo(
            backend=DECLARATION.name,
            model=f"expression/{network}",
            label_set=self._labels,
            dtype="float32",
            calibration=self._calibration.description,
        )

    def label(self, clips: Sequence[Clip]) -> list[LabelAnswer]:
        return [self._label(clip) for clip in clips]

    def explain(
        self, clip: Clip, answer: LabelAnswer, question: str = "", cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        evidence: tuple[Evidence, ...] = answer.state
        stamps, readings = zip(*good_readings(clip), strict=True)
        phases = phases_of([(clip.stamp_ns - s) / SECOND_NS for s in stamps], readings, RAF_DB.labels)
        if question:
            yield "This backend cannot converse; here is what it measured. "
        yield describe(evidence, answer.probabilities, self._labels.labels, phases, still=len(clip.faces) == 1)

    def forget(self, face_id: str) -> None:
        """Nothing is cached."""

    def close(self) -> None:
        self._info = None

    def _label(self, clip: Clip) -> LabelAnswer:
        scores = clip_scores(clip, self._labels.labels)
        if scores is None:
            sentence = "The expression network gave no reading of this face."
            return LabelAnswer((), status=Status.ERROR, message=sentence)
        evidence = measured_units(clip)
        units = tuple(ActionUnit(e.unit, UNITS[e.unit].name, round(e.intensity, 3)) for e in evidence)
        valence, arousal = clip_affect(clip)
        return LabelAnswer(self._calibration.apply(scores.tolist()), units, valence, arousal, state=evidence)


DECLARATION = Declaration(
    "expression",
    ExpressionBackend,
    label_sets=tuple(name for name, known in LABEL_SETS.items() if set(known.labels) <= set(DISPLAYS)),
)
