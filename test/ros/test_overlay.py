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


def test_captions_and_reasons_are_filled_with_the_colour_of_the_label(estimate):
    from emo_llama_ros.ros.overlay import LABEL_COLOURS, draw

    rgb = np.full((480, 640, 3), 77, np.uint8)
    place = RegionOfInterest(x_offset=200, y_offset=100, height=200, width=200)

    def share(region, colour):
        return (region == colour).all(axis=-1).mean()

    seen = estimate(roi=place, label="anger", confidence=0.9, reasoning="The brows are lowered, and the lips pressed.")
    picture = draw(rgb, [seen])
    assert share(picture[84:98, 203:280], LABEL_COLOURS["anger"]) > 0.5, "above the box"
    assert share(picture[302:314, 203:400], LABEL_COLOURS["anger"]) > 0.5, "below the box"
    doubted = draw(rgb, [estimate(roi=place, label="anger", status=Status.LOW_CONFIDENCE)])
    assert share(doubted, LABEL_COLOURS["anger"]) == 0, "what is not OK is grey"


@pytest.mark.parametrize("where", [(0, 0), (600, 460), (635, 0)])
def test_captions_at_the_edges_stay_inside_the_picture(estimate, where):
    from emo_llama_ros.ros.overlay import draw

    place = RegionOfInterest(x_offset=where[0], y_offset=where[1], height=20, width=40)
    seen = estimate(roi=place, label="happiness", confidence=1.0, reasoning="Ünïcode — and more " * 20, face_id="abcde")
    picture = draw(np.zeros((480, 640, 3), np.uint8), [seen])
    assert (picture == (230, 159, 0)).all(axis=-1).sum() > 1000


def test_the_colours_are_those_of_the_timeline():
    from emo_llama_ros.recordings.timeline import COLOURS
    from emo_llama_ros.ros.overlay import LABEL_COLOURS

    assert {name: f"#{r:02X}{g:02X}{b:02X}" for name, (r, g, b) in LABEL_COLOURS.items()} == COLOURS


def test_the_caption_gives_label_confidence_doubt_and_person(estimate):
    from emo_llama_ros.ros.overlay import caption

    assert caption(estimate(label="anger", confidence=0.87)) == "anger 87%, a"
    doubted = estimate(label="anger", confidence=0.3, status=Status.LOW_CONFIDENCE)
    assert caption(doubted) == "anger 30%, low confidence, a"
    assert caption(estimate(status=Status.ERROR, face_id="")) == "error"


@pytest.fixture
def watched(corner, scripted):
    """An active node whose overlay somebody looks at: (node, engine, camera, raw pictures, compressed pictures)."""
    from sensor_msgs.msg import CompressedImage, Image

    node = corner.emo_llama_node(scripted)
    corner.change_state("configure")
    corner.change_state("activate")
    raw = corner.hear(Image, "emo_llama_node/overlay", 1)
    compressed = corner.hear(CompressedImage, "emo_llama_node/overlay/compressed", 1)
    overlay = node._overlay
    corner.until(
        lambda: overlay._raw.get_subscription_count() and overlay._jpeg.get_subscription_count(), "the viewers"
    )
    return node, scripted.made[0], corner.camera(), raw, compressed


def test_nothing_is_drawn_unless_switched_on_and_looked_at(corner, watched, estimate):
    node, engine, camera, pictures, compressed = watched
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
        return pictures and compressed

    corner.until(picture_came, "the overlay")
    picture = pictures[0]
    assert (picture.header.stamp.sec, picture.header.stamp.nanosec) in sent
    assert (picture.encoding, picture.width, picture.height) == ("rgb8", 64, 48)
    assert len(set(picture.data)) > 1, "something was drawn into the flat image"

    import cv2

    shown = cv2.imdecode(np.frombuffer(compressed[0].data, np.uint8), cv2.IMREAD_COLOR)
    assert compressed[0].format == "jpeg"
    assert shown.shape == (48, 64, 3)
    assert compressed[0].header.frame_id == "camera_optical_frame"

    assert corner.set_parameter("overlay", False).successful
    corner.until(lambda: camera.publish(corner.image()) or node._overlay._frame is None, "the kept frame to go")


def test_no_picture_leaves_while_the_privacy_switch_is_off_whoever_asks(corner, watched, estimate, monkeypatch):
    node, engine, camera, pictures, compressed = watched
    assert corner.set_parameter("overlay", True).successful
    corner.until(lambda: camera.publish(corner.image()) or (pictures and compressed), "the overlay")
    engine.on_estimate(estimate(label="anger"))

    assert corner.set_parameter("enabled", False).successful
    assert node._overlay._frame is None
    assert not node._overlay._people, "what was seen before is forgotten"
    decoded = []
    monkeypatch.setattr("emo_llama_ros.images.decode.decode", lambda *a: decoded.append(a))
    corner.until(lambda: len(pictures) + len(compressed), "what was on its way")
    pictures.clear()
    compressed.clear()
    for _ in range(3):
        assert corner.set_parameter("overlay", True).successful, "to ask for it again changes nothing"
        wanted = len(engine.frames) + 3
        corner.until(lambda n=wanted: camera.publish(corner.image()) or len(engine.frames) >= n, "frames")
        node._overlay._publish()
    assert not decoded
    assert len(pictures) + len(compressed) == 0
    assert corner.set_parameter("enabled", True).successful
    monkeypatch.undo()
    corner.until(lambda: camera.publish(corner.image()) or (pictures and compressed), "the overlay again")
