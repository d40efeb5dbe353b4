"""What a look at a machine, a checkpoint or a ROS graph yields: findings, as `emo_llama doctor` prints them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Level(Enum):
    """How bad a finding is."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the doctor: what was looked at, what was found, and what to do about it."""

    level: Level
    subject: str
    found: str
    advice: str = ""
