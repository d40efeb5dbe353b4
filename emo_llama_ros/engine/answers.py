"""From a backend's answer to the estimate that is published."""

from __future__ import annotations

from dataclasses import replace

from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.estimate import Estimate, RegionOfInterest, Stage, StageTiming, Status
from emo_llama_ros.faces.face import Box, QualityFlaw
from emo_llama_ros.perception.clips import Clip

MAX_REASONING_CHARACTERS = 2000


def label_estimate(
    clip: Clip, answer: LabelAnswer, info: ModelInfo, min_confidence: float, timings: tuple[StageTiming, ...] = ()
) -> Estimate:
    """Return the FINAL estimate of a labelled clip, without reasoning.

    The label is the most probable one. A flaw of the newest face makes the status LOW_QUALITY, a confidence below
    `min_confidence` LOW_CONFIDENCE; an answer that is not OK keeps its status and carries no label.
    """
    frames = answer.frames or len(clip.faces)
    bare = Estimate(
        stamp_ns=clip.stamp_ns,
        frame_id=clip.frame_id,
        estimate_id=f"{clip.face_id}-{clip.stamp_ns}",
        stage=Stage.FINAL,
        status=answer.status,
        clip_start_ns=clip.stamps_ns[-frames],
        frame_count=frames,
        model=info.model,
        face_id=clip.face_id,
        roi=_roi(clip.faces[-1].box),
        label_set=info.label_set.name,
        labels=info.label_set.labels,
        timings=timings,
    )
    if answer.status is not Status.OK:
        return replace(bare, reasoning=printable(answer.message))
    top = max(range(len(answer.probabilities)), key=lambda i: answer.probabilities[i])
    confidence = answer.probabilities[top]
    status = Status.LOW_CONFIDENCE if confidence < min_confidence else Status.OK
    return replace(
        bare,
        status=Status.LOW_QUALITY if clip.flaws is not QualityFlaw.NONE else status,
        label=info.label_set.labels[top],
        confidence=confidence,
        probabilities=answer.probabilities,
        action_units=answer.action_units,
        valence=answer.valence,
        arousal=answer.arousal,
    )


def announced(estimate: Estimate) -> Estimate:
    """Return the LABEL form of an estimate whose reasoning is still to come."""
    return replace(estimate, stage=Stage.LABEL, reasoning="")


def explained(estimate: Estimate, reasoning: str, timings: tuple[StageTiming, ...] = ()) -> Estimate:
    """Return the FINAL form of an estimate, with its complete reasoning."""
    return replace(estimate, stage=Stage.FINAL, reasoning=printable(reasoning), timings=estimate.timings + timings)


def nobody_estimate(stamp_ns: int, frame_id: str, info: ModelInfo) -> Estimate:
    """Return the estimate that says nobody is in view."""
    return Estimate(
        stamp_ns=stamp_ns,
        frame_id=frame_id,
        estimate_id=f"nobody-{stamp_ns}",
        stage=Stage.FINAL,
        status=Status.NO_FACE,
        clip_start_ns=stamp_ns,
        frame_count=1,
        model=info.model,
        label_set=info.label_set.name,
        labels=info.label_set.labels,
    )


def printable(text: str) -> str:
    """Return model text as one line without control characters, cut at a sane length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:MAX_REASONING_CHARACTERS]


def _roi(box: Box) -> RegionOfInterest:
    x, y = max(0, round(box.x)), max(0, round(box.y))
    right, bottom = max(x, round(box.x + box.width)), max(y, round(box.y + box.height))
    return RegionOfInterest(x_offset=x, y_offset=y, height=bottom - y, width=right - x)
