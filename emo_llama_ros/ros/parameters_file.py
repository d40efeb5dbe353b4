"""Write config/emo.yaml from the table of options: `python -m emo_llama_ros.ros.parameters_file > config/emo.yaml`."""

from __future__ import annotations

import json
import textwrap

from emo_llama_ros.options import Spec, specs

_WIDTH = 100
_HEAD = """\
# Every parameter of emo_llama_node with its default. Written by `python -m emo_llama_ros.ros.parameters_file`.
#
# "live" parameters take effect at once (ros2 param set). All others are read when the node is configured: deactivate
# it and clean it up before they are changed.
"""


def parameters_yaml() -> str:
    """Return the text of a ROS 2 parameter file with every option, its meaning, unit and range."""
    lines = [_HEAD, "/**:", "  ros__parameters:"]
    group = ""
    for spec in specs().values():
        if spec.group != group:
            group = spec.group
            lines += ["", f"    # --- {group} ---", ""]
        lines += [f"    # {line}" for line in textwrap.wrap(describe(spec), _WIDTH)]
        # JSON is YAML, and unlike a YAML writer it keeps 2.0 a float and quotes every string.
        lines.append(f"    {spec.name}: {json.dumps(spec.default)}")
    return "\n".join(lines) + "\n"


def describe(spec: Spec) -> str:
    """Return the option's meaning, followed by unit, range or choices, and "live" where a change acts at once."""
    facts = [spec.description, *constraints(spec)]
    return " ".join(facts)


def constraints(spec: Spec) -> list[str]:
    """Return what may be put into the option, as short sentences."""
    facts = []
    if spec.low is not None and spec.high is not None:
        facts.append(f"Range: {spec.low:.12g} to {spec.high:.12g}{' ' + spec.unit if spec.unit else ''}.")
    if spec.choices:
        facts.append(f"One of: {', '.join(spec.choices)}.")
    if spec.live:
        facts.append("Live.")
    return facts


if __name__ == "__main__":
    print(parameters_yaml(), end="")
