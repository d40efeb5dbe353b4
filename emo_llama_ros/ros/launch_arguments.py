"""What emo.launch.py and `emo_llama run` take as NAME:=VALUE: every option, and how the node is started."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import specs, unknown_option, value_of
from emo_llama_ros.ros.parameters_file import describe
from emo_llama_ros.ros.shared_files import shared_file

NODE_NAME = "emo_llama_node"
LOG_LEVELS = ("debug", "info", "warn", "error", "fatal")
_BOOLS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_TOKEN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class LaunchArgument:
    """One launch argument: its default as a text, and what it means."""

    name: str
    default: str
    description: str


START = (
    LaunchArgument("params_file", "", "Parameter file; the shipped config/emo.yaml, which lists all, if not given."),
    LaunchArgument("namespace", "", "Namespace of the node and of /emotion."),
    LaunchArgument("name", NODE_NAME, "Name of the node."),
    LaunchArgument("use_sim_time", "", "Follow /clock, as with a bag; as the parameter file says if not given."),
    LaunchArgument("log_level", "info", "debug, info, warn or error."),
    LaunchArgument("autostart", "true", "Configure and activate the node."),
)
"""How the node is started, by the launch file and by `emo_llama run`."""
LAUNCH_ONLY = (
    LaunchArgument("respawn", "false", "Start the node again when it dies."),
    LaunchArgument(
        "fastdds_profile", "", "Fast DDS profile for everything launched from here on; empty takes the shipped one for "
        "large images unless the environment names one, 'none' takes none.",
    ),
)  # fmt: skip
"""What only the launch file can do."""


@dataclass(frozen=True, slots=True)
class NodeStart:
    """A checked choice of launch arguments. Options that were not given are left to the parameter file."""

    options: Mapping[str, Any]
    params_file: Path
    namespace: str
    """Absolute, or "" for none."""
    name: str
    use_sim_time: bool | None
    """None: as the parameter file says."""
    log_level: str
    autostart: bool
    respawn: bool
    fastdds_profile: str


def launch_arguments() -> list[LaunchArgument]:
    """Return every argument of emo.launch.py; an option's default is "", which leaves it to the parameter file."""
    options = [LaunchArgument(spec.name, "", describe(spec)) for spec in specs().values()]
    return [*options, *START, *LAUNCH_ONLY]


def split(arguments: Iterable[str]) -> dict[str, str]:
    """Return NAME:=VALUE arguments as a mapping; raise BadParameter for an argument of another form."""
    found = {}
    for argument in arguments:
        name, separator, value = argument.partition(":=")
        if not separator or not name:
            ros = " ROS arguments such as -r and -p stand behind --ros-args." if argument.startswith("-") else ""
            raise BadParameter(f"'{argument}' is not of the form NAME:=VALUE.{ros}")
        found[name] = value
    return found


def node_start(values: Mapping[str, str], launched: bool = True) -> NodeStart:
    """Return launch arguments by name as a checked start of the node.

    `launched` false refuses what only the launch file can do. Raises BadParameter, in one sentence, for a name that
    does not exist (naming the nearest), a value that is not allowed, or a parameter file that cannot be read or is for
    other nodes.
    """
    known = {argument.name: argument for argument in (*START, *(LAUNCH_ONLY if launched else ()))}
    for name in values:
        if name not in known and name not in specs():
            raise BadParameter(unknown_option(name, known))
    # In a launch file an option that was not given is there as "". From a command line, "" was typed, and is checked.
    given = {n: v for n, v in values.items() if v or not launched}
    text = {name: given.get(name, argument.default) or argument.default for name, argument in known.items()}
    namespace, name = _namespace(text["namespace"]), _node_name(text["name"])
    file = Path(text["params_file"]).expanduser() if text["params_file"] else shared_file("config", "emo.yaml")
    check_params_file(file, namespace, name)
    if text["log_level"] not in LOG_LEVELS:
        raise BadParameter(f"log_level must be one of {', '.join(LOG_LEVELS)}, not '{text['log_level']}'.")
    return NodeStart(
        options={n: value_of(n, v) for n, v in given.items() if n in specs()},
        params_file=file,
        namespace=namespace,
        name=name,
        use_sim_time=_bool("use_sim_time", text["use_sim_time"]) if given.get("use_sim_time") else None,
        log_level=text["log_level"],
        autostart=_bool("autostart", text["autostart"]),
        respawn=_bool("respawn", text.get("respawn", "false")),
        fastdds_profile=text.get("fastdds_profile", ""),
    )


def ros_arguments(start: NodeStart, more: Sequence[str] = ()) -> list[str]:
    """Return a start of the node as the arguments of its command line; `more` are ROS arguments of the user's own."""
    found = [*(["--autostart"] if start.autostart else []), "--ros-args", "--params-file", str(start.params_file)]
    if start.namespace:
        found += ["-r", f"__ns:={start.namespace}"]
    found += ["-r", f"__node:={start.name}", "--log-level", start.log_level]
    values = dict(start.options)
    if start.use_sim_time is not None:
        values["use_sim_time"] = start.use_sim_time
    for name, value in values.items():
        found += ["-p", f"{name}:={_yaml_value(value)}"]
    return [*found, *more]


def check_params_file(file: Path, namespace: str = "", name: str = NODE_NAME) -> None:
    """Raise BadParameter with one sentence when a parameter file cannot be read, or says nothing to this node."""
    if not file.is_file():
        raise BadParameter(f"There is no parameter file {file}.")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8-sig"))
    except yaml.MarkedYAMLError as error:
        line = f" in line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise BadParameter(f"The parameter file {file} is not YAML: {error.problem}{line}.") from None
    except (yaml.YAMLError, OSError, UnicodeDecodeError) as error:
        raise BadParameter(f"The parameter file {file} cannot be read: {' '.join(str(error).split())}.") from None
    if not isinstance(content, dict) or not content:
        raise BadParameter(f"The parameter file {file} holds no parameters; it starts with {_HEAD}.")
    nodes = dict(_sections(content, ""))
    for node, parameters in nodes.items():
        if not isinstance(parameters, dict):
            raise BadParameter(
                f"In the parameter file {file}, the part '{node}' lacks ros__parameters: begin with {_HEAD}."
            )
    full = f"{namespace}/{name}"
    if not any(_matches(pattern, full, name) for pattern in nodes):
        raise BadParameter(
            f"The parameter file {file} is for {', '.join(nodes)}, not for the node {full}; begin it with {_HEAD}."
        )


_HEAD = "'/**:' and, indented below it, 'ros__parameters:'"


def _sections(content: Mapping[Any, Any], above: str) -> Iterable[tuple[str, Any]]:
    """Yield (node, its parameters) of a parameter file, in which namespaces may be nested; None for what has none."""
    for key, value in content.items():
        name = f"{above}/{str(key).strip('/')}" if above else str(key)
        if not isinstance(value, dict):
            yield name, None
        elif "ros__parameters" in value:
            yield name, value["ros__parameters"] or {}
        elif value and all(isinstance(inner, dict) for inner in value.values()):
            yield from _sections(value, name)
        else:
            yield name, None


def _matches(pattern: str, full: str, name: str) -> bool:
    if pattern.strip("/") == name and pattern.count("/") <= 1:
        return full.count("/") == 1 or not pattern.startswith("/")
    absolute = "/" + pattern.lstrip("/")
    # "/**" is any number of names, "*" exactly one.
    return fnmatchcase(full, absolute.replace("/**", "*").replace("**", "*"))


def _namespace(text: str) -> str:
    namespace = "/" + text.strip("/") if text.strip("/") else ""
    if not all(_TOKEN.fullmatch(part) for part in namespace.split("/")[1:]):
        raise BadParameter(f"The namespace '{text}' must be made of letters, digits, '_' and '/' alone, as in /left.")
    return namespace


def _node_name(text: str) -> str:
    if not _TOKEN.fullmatch(text):
        raise BadParameter(
            f"The node name '{text}' must be made of letters, digits and '_' alone, and begin with no digit."
        )
    return text


def _bool(name: str, text: str) -> bool:
    value = _BOOLS.get(text.lower())
    if value is None:
        raise BadParameter(f"{name} must be true or false, not '{text}'.")
    return value


def _yaml_value(value: Any) -> str:
    """Return a value as rcl reads it back in the same type."""
    if isinstance(value, float) and "e" in repr(value):
        return f"{value:.17f}"
    return json.dumps(value, ensure_ascii=False)
