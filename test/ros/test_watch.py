"""`emo_llama watch`: what is said on /emotion, and why nothing is."""

import os
import signal
import subprocess
import sys
import threading

import pytest
from patience import PATIENCE_S

pytestmark = pytest.mark.usefixtures("ros")
REASON = "The face clearly shows happiness. " * 10


def collect(stream, lines):
    for line in stream:
        lines.append(line)


@pytest.fixture
def watching(repository):
    """Start `emo_llama watch` in a process of its own; its lines of stdout and stderr fill as they come."""
    made = []

    def start(topic):
        process = subprocess.Popen(
            [sys.executable, "-m", "emo_llama_ros.cli", "watch", "--topic", topic],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")])},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
        )  # fmt: skip
        out, errors = [], []
        for stream, lines in ((process.stdout, out), (process.stderr, errors)):
            threading.Thread(target=collect, args=(stream, lines), daemon=True).start()
        made.append(process)
        return process, out, errors

    yield start
    for process in made:
        process.kill()
        process.wait(PATIENCE_S)


def test_a_pipe_gets_one_whole_line_per_message_and_ctrl_c_ends_it(corner, watching, estimate):
    from emo_llama_ros.msg import EmotionEstimate

    from emo_llama_ros.ros.conversion import estimate_message

    publisher = corner.helper.create_publisher(EmotionEstimate, corner.name("emotion"), 10)
    process, out, errors = watching(corner.name("emotion"))
    corner.until(publisher.get_subscription_count, "the watcher")
    publisher.publish(estimate_message(estimate(label="happiness", confidence=0.75, reasoning=REASON)))
    corner.until(lambda: out, "a line")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert " ".join(out).count("clearly shows happiness") == 10
    assert len(out) == 1
    assert errors == []


def test_a_topic_that_nobody_publishes_is_told_with_what_to_do(corner, watching):
    process, out, errors = watching("nowhere/emotion")
    corner.until(lambda: errors, "the note")
    assert "Nobody publishes /nowhere/emotion: start the node with `emo_llama run" in errors[0]
    assert f"({os.environ['ROS_DOMAIN_ID']})" in errors[0]
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_S) == 0
    assert (out, len(errors)) == ([], 1), "it is told once"


def listener_notes(corner, topic, word):
    from emo_llama_ros.ros.watch import _listening

    with _listening(topic, 0.0, lambda estimate: None) as listener:
        found = []
        corner.until(lambda: any(word in note for note in found) or found.extend(listener.notes()), word)
        return found


def test_estimates_on_another_topic_are_named(corner):
    from emo_llama_ros.msg import EmotionEstimate

    corner.helper.create_publisher(EmotionEstimate, corner.name("emotion"), 10)
    notes = listener_notes(corner, corner.name("feelings"), word=corner.name("emotion"))
    assert f"Nobody publishes {corner.name('feelings')}, but {corner.name('emotion')}: name it with --topic." in notes


def test_another_type_on_the_topic_is_named(corner):
    from sensor_msgs.msg import Image

    corner.helper.create_publisher(Image, corner.name("emotion"), 10)
    notes = listener_notes(corner, corner.name("emotion"), word="sensor_msgs/msg/Image")
    assert "not emo_llama_ros/msg/EmotionEstimate" in notes[-1]


def test_what_the_node_complains_about_is_told(corner, scripted):
    corner.emo_llama_node(scripted, image_topic="dark/image_raw")
    assert corner.change_state("configure")
    assert corner.change_state("activate")
    notes = listener_notes(corner, corner.name("emotion"), word="dark/image_raw")
    assert any(n.startswith(f"{corner.name('emo_llama_node')}: camera: ") for n in notes)


def test_a_name_that_is_none_is_refused(corner):
    from emo_llama_ros.errors import BadParameter
    from emo_llama_ros.ros.watch import watch

    with pytest.raises(BadParameter, match="'/a b' is no topic name"):
        watch("/a b", threading.Event())
