"""Why frames came in and no estimate came out, in one sentence."""

from __future__ import annotations

from emo_llama_ros.engine.api import EngineState, EngineStats
from emo_llama_ros.options import Options

_PUBLISHED = ("labelled", "failed", "nobody")
_LOST_CLIPS = {
    "stale": "became older than max_age_s before the model was free: take a smaller model, or raise max_age_s",
    "late": "became older than max_age_s while the model read them: take a smaller model, or raise max_age_s",
    "gone": "were of people who left before the model was free",
    "flushed": "were discarded by a jump of the clock or a switch",
    "worker_lost": "were lost with a model process that ended",
}


def why_silent(stats: EngineStats, options: Options) -> str:
    """Return one sentence on why an engine has given no estimate; "" when it has given one."""
    if any(stats.clips.get(fate) for fate in _PUBLISHED):
        return ""
    if stats.message:
        return stats.message
    if stats.state is EngineState.LOADING:
        return "The model is still loading."
    if options.on_demand:
        return "on_demand is set: only questions are answered."
    if stats.received == 0:
        return "No frame has come from the camera."
    if stats.remarks:
        return stats.remarks[0]
    lost = {reason: count for reason, count in stats.drops.items() if count}
    if stats.used == 0 and lost:
        return _why_unused(max(lost, key=lambda reason: lost[reason]), stats)
    if stats.used == 0:
        return "No frame has been looked at yet."
    if stats.clips.get("due"):
        fate = max(_LOST_CLIPS, key=lambda name: stats.clips.get(name, 0))
        if stats.clips.get(fate):
            return f"{stats.clips[fate]} of {stats.clips['due']} clips {_LOST_CLIPS[fate]}."
        return "The first clip is still being read."
    if stats.frames_with_faces:
        return (
            f"Faces were found in {stats.frames_with_faces} of {stats.used} frames, but none of them for as long as "
            f"clip_min_s ({options.clip_min_s:g} s)."
        )
    return "No face was found yet."


def _why_unused(reason: str, stats: EngineStats) -> str:
    count = f"All {stats.received} frames" if stats.received > 1 else "The only frame"
    sentences = {
        "disabled": "were dropped: the camera is switched off (enabled is false)",
        "not_ready": "came before the model was ready",
        "bad_image": f"could not be read: {stats.last_bad_image}",
        "faces_failed": f"could not be searched for faces: {stats.last_bad_image}",
        "old_stamp": "have stamps that stand still or go back",
    }
    return f"{count} {sentences.get(reason, f'were dropped: {reason}')}".rstrip(".") + "."
