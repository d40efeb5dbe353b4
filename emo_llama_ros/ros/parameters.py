"""The options as ROS parameters: declared with description and range, checked before they are accepted."""

from __future__ import annotations

from collections.abc import Iterable

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.node import Node
from rclpy.parameter import Parameter

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import Options, Spec, check, specs
from emo_llama_ros.ros.parameters_file import constraints

# What a parameter file may hold beside the options.
_FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare(node: Node) -> None:
    """Declare every option on `node`; rclpy raises a ParameterException for a value of wrong type or out of range."""
    node.declare_parameters("", [(spec.name, spec.default, descriptor(spec)) for spec in specs().values()])


def read(node: Node) -> Options:
    """Return the parameters of `node` as options; raise BadParameter when one is not allowed."""
    return Options().with_values({name: node.get_parameter(name).value for name in specs()})


def descriptor(spec: Spec) -> ParameterDescriptor:
    """Return what `ros2 param describe` shows of an option."""
    unit = f" Unit: {spec.unit}." if spec.unit else ""
    found = ParameterDescriptor(name=spec.name, description=spec.description + unit)
    found.additional_constraints = " ".join(fact for fact in constraints(spec) if not fact.startswith("Range"))
    if spec.low is None or spec.high is None:
        return found
    if spec.type is int:
        found.integer_range = [IntegerRange(from_value=int(spec.low), to_value=int(spec.high))]
    else:
        found.floating_point_range = [FloatingPointRange(from_value=float(spec.low), to_value=float(spec.high))]
    return found


def refusal(parameters: Iterable[Parameter], configured: bool) -> str:
    """Return why these changes are refused, in one sentence; "" when all are fine.

    While the node is configured only live options may change, because the others have been built into the model
    side: a value that is accepted and ignored would be worse.
    """
    table = specs()
    for parameter in parameters:
        spec = table.get(parameter.name)
        if spec is None:
            continue
        try:
            check(parameter.name, parameter.value)
        except BadParameter as error:
            return str(error)
        if configured and not spec.live:
            return f"'{parameter.name}' takes effect at the next configure: deactivate and clean up the node first."
    return ""


def unknown(names: Iterable[str]) -> list[str]:
    """Return those parameter names of a file or command line that no option has, for example misspelt ones."""
    table = specs()
    return sorted(name for name in names if name not in table and not name.startswith(_FOREIGN))
