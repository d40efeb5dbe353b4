import numpy as np
import pytest

from emo_llama_ros.estimate import RegionOfInterest, Status

pytestmark = pytest.mark.usefixtures("ros")


def test_a_box_stands_where_the_face_is_and_the_picture_itself_is_left_alone(estimate):
    from emo_llama_ros.ros.overlay import draw

    rgb = np.zeros((480, 1280, 3), np.uint8)
    seen = estimate(roi=RegionOfInterest(x_offset=400, y_offset=100, height=200, width=200), label="anger")
    picture = draw(rgb, [seen])
    assert picture.shape == (240, 640, 3)
    assert not rgb.any()
    assert picture[50:150, 200].any(axis=1).all(), "the left side of the box"
    assert not picture[60:140, 210:290].any(), "the face itself stays visible"
    assert draw(rgb[:100, :100], []).shape == (100, 100, 3)


def test_the_caption_gives_label_confidence_and_doubt(estimate):
    from emo_llama_ros.ros.overlay import caption

    assert caption(estimate(label="anger", confidence=0.87)) == "anger 87%"
    assert caption(estimate(label="anger", confidence=0.3, status=Status.LOW_CONFIDENCE)) == "anger 30%, low confidence"
    assert caption(estimate(status=Status.ERROR)) == "error"


def test_nothing_is_drawn_unless_switched_on_and_looked_at(corner, scripted, estimate):
    from sensor_msgs.msg import Image

    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    camera = corner.camera()
    (engine,) = scripted.made
    pictures = corner.hear(Image, "emo_llama_node/overlay", 1)
    corner.until(lambda: node._overlay._publisher.get_subscription_count(), "the viewer")
    corner.until(lambda: camera.publish(corner.image()) or len(engine.frames) > 3, "frames")
    assert node._overlay._frame is None, "off by default: no frame is kept"
    assert not pictures

    assert corner.set_parameter("overlay", True).successful
    engine.on_estimate(estimate(roi=RegionOfInterest(10, 10, 20, 20), label="anger", confidence=0.9))
    sent = []

    def picture_came():
        image = corner.image(value=9)
        sent.append((image.header.stamp.sec, image.header.stamp.nanosec))
        camera.publish(image)
        return pictures

    corner.until(picture_came, "the overlay")
    picture = pictures[0]
    assert (picture.header.stamp.sec, picture.header.stamp.nanosec) in sent
    assert (picture.encoding, picture.width, picture.height) == ("rgb8", 64, 48)
    assert len(set(picture.data)) > 1, "something was drawn into the flat image"

    assert corner.set_parameter("overlay", False).successful
    corner.until(lambda: camera.publish(corner.image()) or node._overlay._frame is None, "the kept frame to go")
