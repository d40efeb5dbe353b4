"""What the README promises is what a live node and the command line have."""

import re

import pytest

from emo_llama_ros.options import specs

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture(scope="module")
def readme(repository):
    return (repository / "README.md").read_text()


def table(readme, heading):
    """Return the rows of the first table below a heading, cells stripped."""
    section = readme.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    rows = [line.strip().strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows[2:]]


def test_topics_types_and_qos_are_those_of_a_live_node(corner, scripted, readme):
    from rclpy.action import get_action_names_and_types

    rows = table(readme, "Topics")
    promised = {re.match(r"`([^`]+)`", name).group(1): cells for name, *cells in rows}
    assert {"emotion", "~/model_info", "~/ask", "/diagnostics", "camera/image_raw"} <= set(promised)
    node = corner.emo_llama_node(scripted, image_transport="raw")
    corner.change_state("configure")
    corner.change_state("activate")
    for name, (kind, qos, text) in promised.items():
        full = node.resolve_topic_name(name)
        kind = kind.strip("`").removeprefix("action `")
        if name == "~/ask":
            actions = dict(corner.until(lambda: get_action_names_and_types(node), "the action"))
            assert actions[full] == [f"emo_llama_ros/action/{kind}"]
            continue
        if name.endswith("/compressed"):
            corner.change_state("deactivate")
            corner.change_state("cleanup")
            corner.set_parameter("image_transport", "compressed")
            corner.change_state("configure")
            corner.change_state("activate")
        incoming = text.startswith("in")
        look = node.get_subscriptions_info_by_topic if incoming else node.get_publishers_info_by_topic
        endpoints = corner.until(lambda look=look, full=full: look(full), f"{name} in the graph")
        (endpoint,) = [e for e in endpoints if e.node_namespace == corner.namespace and e.node_name == node.get_name()]
        package, _, bare = kind.rpartition("/")
        assert endpoint.topic_type == f"{package or 'emo_llama_ros'}/msg/{bare}", name
        assert endpoint.qos_profile.reliability.name.replace("_", " ").lower() in qos, name
        if "transient local" in qos or "volatile" in qos:
            assert endpoint.qos_profile.durability.name.replace("_", " ").lower() in qos, name


def test_nothing_a_live_node_publishes_is_missing(corner, scripted, readme):
    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    standard = {"rosout", "parameter_events", "transition_event"}
    topics = dict(node.get_publisher_names_and_types_by_node(node.get_name(), corner.namespace))
    names = {topic.rsplit("/", 1)[1] for topic in topics if "/_action/" not in topic} - standard
    assert names
    promised = " ".join(row[0] for row in table(readme, "Topics"))
    assert [name for name in names if name not in promised] == []


def test_the_parameters_named_exist_with_the_default_that_is_told(readme):
    known = specs()
    for names, defaults, _ in table(readme, "Parameters"):
        parameters = re.findall(r"`(\w+)`", names)
        assert parameters
        for parameter, told in zip(parameters, defaults.split(","), strict=False):
            assert parameter in known
            default = known[parameter].default
            said = told.strip().strip("`").strip('"')
            assert said == (str(default).lower() if isinstance(default, bool) else str(default)) or (
                isinstance(default, float) and float(said) == default
            ), parameter


def test_how_the_node_can_be_launched_is_told_in_full(readme):
    from emo_llama_ros.ros.launch_arguments import LAUNCH_ONLY, START

    told = readme.split("\n## Lifecycle and launch\n")[1].split("\n## ")[0]
    beside_parameters = told.split("--show-args")[1]
    assert set(re.findall(r"`(\w+)`", beside_parameters)) == {argument.name for argument in (*START, *LAUNCH_ONLY)}
