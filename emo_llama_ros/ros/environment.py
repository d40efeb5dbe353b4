"""What can be said about the surroundings of a node without rclpy: log files, and rcl's complaints as sentences."""

from __future__ import annotations

import os
import re
from pathlib import Path


def one_sentence(error: object) -> str:
    """Return what rcl says about a failure as one line, without the places in its source."""
    text = " ".join(str(error).split())
    text = re.sub(r",? at /?\S+\.(?:c|cpp|h|hpp):\d+", "", text)
    text = re.sub(r"^(?:failed to initialize rcl|Failed to parse ROS arguments): ", "", text)
    return text.rstrip(". ") + "." if text else type(error).__name__


def wrong_domain() -> str:
    """Return what is wrong with ROS_DOMAIN_ID, "" when nothing is. rcl takes -1 for 0, and Fast DDS fails above 232."""
    domain = os.environ.get("ROS_DOMAIN_ID") or "0"
    if domain.isdecimal() and int(domain) <= 232:
        return ""
    return f"ROS_DOMAIN_ID is '{domain}', which is no number from 0 to 232"


def log_folder() -> Path:
    """Return where ROS writes its log files."""
    if os.environ.get("ROS_LOG_DIR"):
        return Path(os.environ["ROS_LOG_DIR"]).expanduser()
    home = os.environ.get("ROS_HOME") or os.path.join(os.environ.get("HOME") or os.path.expanduser("~"), ".ros")
    return Path(home).expanduser() / "log"


def can_be_written(folder: Path) -> bool:
    """Make a folder and return whether files can be made in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK)
