"""The whole street: a real face video goes in as camera images over DDS, EmotionEstimate comes out."""

import array
import statistics

import pytest

pytestmark = pytest.mark.usefixtures("ros")


@pytest.fixture(scope="module")
def play(ros, sample_video, tmp_path_factory):
    """Play a sample video live to a node of its own; return (LiveReplay, stamps of its frames)."""
    from emo_llama_ros.recordings.bag_writer import BagWriter
    from emo_llama_ros.recordings.bags import ImageBag
    from emo_llama_ros.recordings.media import file_frames, jpeg_frame
    from emo_llama_ros.ros.live_replay import replay_live

    def run(*names, compressed=False, damage=(), hold=3.0, **parameters):
        folder = tmp_path_factory.mktemp("street")
        topic = "/camera/image_raw" + ("/compressed" if compressed else "")
        stamps = []
        with BagWriter(folder / "bag") as writer:
            for number, frame in enumerate(file_frames([sample_video(name) for name in names], hold_s=hold)):
                stamps.append(frame.stamp_ns)
                if compressed:
                    frame = jpeg_frame(frame)
                    if number in damage:
                        object.__setattr__(frame, "data", frame.data[: frame.data.size // 3].copy())
                writer.write_image(topic, frame)
        with ImageBag(folder / "bag") as bag:
            live = replay_live(bag, bag.choose(), parameters, folder / "node.log")
        return live, stamps

    return run


@pytest.fixture(scope="module")
def smile(play):
    """single_face.mp4: a neutral face starts to smile after half a second and holds it to the end."""
    return play("single_face.mp4", clip_min_s=0.2, label_rate_hz=5.0, max_age_s=30.0)


def test_a_smile_is_seen_as_happiness_on_one_person(smile):
    live, _ = smile
    assert live.model
    people = {e.face_id for e in live.estimates}
    assert len(people) == 1
    assert "" not in people
    last = [e for e in live.estimates if e.label][-1]
    assert last.label == "happiness"
    assert abs(sum(last.probabilities) - 1) < 1e-3
    assert last.probabilities[last.labels.index("happiness")] == pytest.approx(last.confidence)


def test_the_stamp_is_that_of_the_newest_frame_that_was_used(smile):
    live, stamps = smile
    assert live.estimates
    for estimate in live.estimates:
        assert estimate.stamp_ns in stamps
        assert estimate.clip_start_ns in stamps
        assert estimate.clip_start_ns <= estimate.stamp_ns
        assert estimate.frame_id == "camera"
        assert 1 <= estimate.frame_count <= 8


def test_every_label_message_is_completed_by_a_final_one_or_superseded(smile):
    live, _ = smile
    stages = {}
    for estimate in live.estimates:
        stages.setdefault(estimate.estimate_id, []).append(estimate.stage.name)
    assert set(map(tuple, stages.values())) <= {("LABEL", "FINAL"), ("FINAL",), ("LABEL",)}
    explained = [e for e in live.estimates if e.stage.name == "FINAL" and e.reasoning]
    assert explained
    assert all(not e.reasoning for e in live.estimates if e.stage.name == "LABEL")


def test_frames_arrive_and_every_one_is_accounted_for(smile):
    live, stamps = smile
    assert live.played.frames == len(stamps)
    counts = live.diagnostics["estimates"]
    received = int(counts["frames received"])
    assert received > 0.5 * len(stamps), "best effort: a busy machine may miss some, DDS without the profile nearly all"
    dropped = sum(int(n) for key, n in counts.items() if key.startswith("frames dropped"))
    accounted = sum(int(counts[f"frames {fate}"]) for fate in ("used", "skipped", "in flight"))
    assert accounted + dropped == received
    converter = live.diagnostics["model"]["image converter"]
    assert converter.startswith(("builtin", "cv_bridge")), "which converter is active, and why"


def test_ages_are_measured_on_the_cameras_clock(smile):
    live, _ = smile
    ages_s = [e.age_at_publish_ns / 1e9 for e in live.estimates if e.stage.name == "LABEL"]
    assert 0 < statistics.median(ages_s) < 60, "not the years between the recording and today"
    assert all(e.timings for e in live.estimates)


def test_nobody_there_is_a_status_and_damaged_jpegs_are_counted_not_fatal(play):
    """The first second of the empty room is damaged on its way; the rest must still be read."""
    damage = range(0, 24)
    live, stamps = play("no_face.mp4", compressed=True, damage=damage)
    assert live.estimates
    assert {e.status.name for e in live.estimates} == {"NO_FACE"}
    for estimate in live.estimates:
        assert (estimate.face_id, estimate.label, estimate.probabilities) == ("", "", ())
        assert estimate.stamp_ns in stamps
        assert stamps.index(estimate.stamp_ns) not in damage
    counts = live.diagnostics["estimates"]
    assert int(counts["frames dropped: bad_image"]) > 0
    assert counts["last bad image"].startswith("The JPEG image of ")


def test_bad_raw_images_are_counted_and_good_ones_still_answered(corner, fetched_networks):
    """Every fault a driver can have, over DDS, into the real worker; then a good image."""
    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(analysis_rate_hz=60.0)
    camera = corner.camera()
    assert corner.change_state("configure")
    assert corner.change_state("activate")
    corner.until(lambda: (s := diagnostics("model")) and s[2]["model state"] == "ready", "the model")

    def broken(**changes):
        image = corner.image()
        for name, value in changes.items():
            setattr(image, name, value)
        return image

    faults = [
        broken(step=1),
        broken(encoding="no_such_encoding"),
        broken(encoding=""),
        broken(width=0, height=0, step=0, data=array.array("B")),
        broken(data=array.array("B")),
        broken(data=array.array("B", b"short")),
        broken(width=20000, height=20000, step=60000),
        broken(width=2**32 - 1, height=2**32 - 1, step=2**32 - 1),
        broken(encoding="mono16", is_bigendian=7),
    ]
    for number, image in enumerate(faults, 1):

        def counted(image=image, number=number):
            image.header.stamp = corner.helper.get_clock().now().to_msg()
            camera.publish(image)
            return node._engine.stats().drops.get("bad_image", 0) >= number

        corner.until(counted, f"fault {number} to be counted")
    # Every frame of the window is bad, so that it is an error, with the newest reason.
    status = corner.until(lambda: (s := diagnostics("estimates")) and s[0] == b"\x02" and s, "the error")
    assert "endianness flag 7" in status[2]["last bad image"]
    assert status[2]["last bad image"] in status[1]

    def used():
        camera.publish(corner.image())
        return node._engine.stats().used > 0

    corner.until(used, "good images to be used again")
    assert corner.state() == "active"
    assert diagnostics("model")[2]["worker restarts"] == "0"


def test_stamps_that_repeat_go_back_or_are_zero_do_no_harm(corner, fetched_networks):
    diagnostics = corner.diagnostics()
    node = corner.emo_llama_node(analysis_rate_hz=60.0)
    camera = corner.camera()
    corner.change_state("configure")
    corner.change_state("activate")
    corner.until(lambda: (s := diagnostics("model")) and s[2]["model state"] == "ready", "the model")
    now = corner.helper.get_clock().now().nanoseconds
    for stamp in (now, now, now - 5_000_000_000, 0, 0, now + 3_600_000_000_000, now + 10_000_000):
        camera.publish(corner.image(stamp_ns=stamp))
    used_before = node._engine.stats().used

    def used():
        camera.publish(corner.image())
        return node._engine.stats().used > used_before + 1

    corner.until(used, "images with good stamps to be used")
    assert corner.state() == "active"
    assert diagnostics("model")[2]["worker restarts"] == "0"
