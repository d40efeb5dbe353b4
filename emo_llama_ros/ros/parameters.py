"""The options as ROS parameters: declared with description and range, checked before they are accepted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rcl_interfaces.msg import Parameter as ParameterMessage
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.parameter_service import ParameterService

from emo_llama_ros.errors import BadParameter
from emo_llama_ros.options import Options, Spec, check, specs, unknown_option
from emo_llama_ros.ros.parameters_file import constraints

# What a parameter file may hold beside the options.
_FOREIGN = ("use_sim_time", "start_type_description_service", "qos_overrides.")


def declare(node: Node) -> None:
    """Declare every option on `node`, with the value that a file or the command line gives it.

    Whole numbers are taken for doubles. Raises BadParameter for the first value of a wrong type or out of range.
    """
    given = overrides(node)
    for spec in specs().values():
        value = check(spec.name, given[spec.name]) if spec.name in given else spec.default
        node.declare_parameter(spec.name, value, descriptor(spec), ignore_override=True)


def overrides(node: Node) -> Mapping[str, Any]:
    """Return the parameters that were given to `node` at its start, declared or not: name to value."""
    # There is no public way to see those that were given but never declared.
    return {name: parameter.value for name, parameter in getattr(node, "_parameter_overrides", {}).items()}


def read(node: Node) -> Options:
    """Return the parameters of `node` as options; raise BadParameter when one is not allowed."""
    return Options().with_values({name: node.get_parameter(name).value for name in specs()})


class CarefulParameterService(ParameterService):
    """The parameter services of a node, which take whole numbers for doubles and refuse with a reason.

    rclpy's own raise for a type that does not exist, and refuse 2 where 2.0 is meant. Make the node with
    `start_parameter_services=False`.
    """

    def _set_parameters_callback(self, request: Any, response: Any) -> Any:
        response.results = [self._set([message]) for message in request.parameters]
        return response

    def _set_parameters_atomically_callback(self, request: Any, response: Any) -> Any:
        response.result = self._set(request.parameters)
        return response

    def _set(self, messages: Sequence[ParameterMessage]) -> SetParametersResult:
        node = self._get_node()
        changes = []
        for message in messages:
            try:
                changes.append(_whole_to_double(Parameter.from_parameter_msg(message)))
            except (ValueError, TypeError, OverflowError):
                kind = message.value.type
                return _refused(
                    f"The value for '{message.name}' has the type {kind}, which is none, or does not fit it."
                )
        unknown_names = [change.name for change in changes if not node.has_parameter(change.name)]
        if unknown_names:
            return _refused(unknown_option(unknown_names[0]))
        try:
            return node.set_parameters_atomically(changes)
        except Exception as error:  # whatever rclpy raises for a value that nobody thought of
            return _refused(f"{type(error).__name__}: {error}")


def _whole_to_double(parameter: Parameter) -> Parameter:
    spec = specs().get(parameter.name)
    if spec is not None and spec.type is float and parameter.type_ is Parameter.Type.INTEGER:
        return Parameter(parameter.name, Parameter.Type.DOUBLE, float(parameter.value))
    return parameter


def _refused(reason: str) -> SetParametersResult:
    return SetParametersResult(successful=False, reason=reason)


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
            if parameter.name == "use_sim_time" and not isinstance(parameter.value, bool):
                return f"Parameter 'use_sim_time' must be a bool, not {parameter.value!r}."
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
