"""A real checkpoint, tiny and random, answers a real face video through the node and DDS in every number format."""

import pytest

pytestmark = pytest.mark.usefixtures("ros")


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_a_checkpoint_in_the_node_announces_labels_and_completes_them(
    quantization, ros, sample_video, checkpoint, tmp_path
):
    from emo_llama_ros.recordings.bag_writer import BagWriter
    from emo_llama_ros.recordings.bags import ImageBag
    from emo_llama_ros.recordings.media import file_frames
    from emo_llama_ros.ros.live_replay import replay_live

    with BagWriter(tmp_path / "bag") as writer:
        for frame in file_frames([sample_video("single_face.mp4")]):
            writer.write_image("/camera/image_raw", frame)
    parameters = {
        "backend": "emo_llama",
        "model_path": str(checkpoint(quantization)),
        "clip_min_s": 0.2,
        "label_rate_hz": 2.0,
        "max_age_s": 30.0,  # what is tested is the answer, not the speed of a busy machine
        "max_reasoning_tokens": 8,
    }
    with ImageBag(tmp_path / "bag") as bag:
        live = replay_live(bag, bag.choose(), parameters, tmp_path / "node.log")

    stages = {}
    for estimate in live.estimates:
        if estimate.face_id:
            stages.setdefault(estimate.estimate_id, []).append(estimate.stage.name)
    assert ["LABEL", "FINAL"] in stages.values(), (tmp_path / "node.log").read_text()[-2000:]
    answered = [e for e in live.estimates if e.label]
    for estimate in answered:
        assert estimate.label in estimate.labels
        assert sum(estimate.probabilities) == pytest.approx(1, abs=1e-3)
        assert checkpoint(quantization).name in estimate.model
    assert quantization == "none" or answered[0].model.endswith(quantization)
