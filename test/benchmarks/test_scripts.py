import json
import os
import subprocess
import sys

import pytest


def last_line(repository, *command):
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, *command], cwd=repository, env=environment, capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_7b_script_runs_every_part_at_a_tiny_size(repository):
    figures = last_line(repository, "benchmarks/gpu_7b.py", "--tiny")
    assert not [name for name in figures if name.endswith("_failed")]
    assert figures["recorded_vs_plain_scores_max_difference"] < 1e-3
    compared = figures["decode_plain_vs_transformers"]
    assert compared["same_choice"] == compared["steps"]
    assert {"label_ms_2_new_frames_paced", "tokens_per_s", "mbu", "decode_vs_plain", "prefill_mfu"} <= set(figures)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_inference_benchmark_prints_its_ratios_and_limits(repository):
    report = last_line(repository, "benchmarks/inference.py", "--passes", "1", "--words", "8")
    assert {"label_vs_generate", "label_vs_floor", "frame_cache_speedup", "mbu", "prefill_mfu"} <= set(report)
    # Exactness, not speed: that is for whoever runs it on a quiet machine.
    assert report["cached_vs_recomputed_max_difference"] < 1e-4


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_nano_benchmark_accounts_for_all_it_saw_and_its_baseline_does_the_same_work(repository, media):
    from emo_llama_ros.model.checkpoint import NANO

    if not (NANO / "model.safetensors").is_file():
        pytest.skip("needs the shipped emo-llama-nano in emo_llama_ros/model/nano")
    media("single_face.mp4")
    report = last_line(repository, "benchmarks/nano.py", "--passes", "1", "--seconds", "3")
    assert report["people"] == 1
    assert report["labels_per_s"] > 0
    assert report["reasonings"]["begun"] > 0
    assert report["unexplained"] == report["labels_failed"] == 0
    assert report["same_reasoning_as_generate"] > 0.9
    assert {"label_speedup", "label_and_reasoning_speedup", "first_token_ms", "tokens_per_s"} <= set(report)
    assert ("memory_mb" in report["missed"]) == (report["memory_mb"] >= 1200)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_services_benchmark_measures_every_service_in_every_state(repository, media):
    pytest.importorskip("rclpy", reason="needs ROS 2")
    media("single_face.mp4")
    report = last_line(repository, "benchmarks/services.py", "--quick")
    states = report["states"]
    assert states.pop("bare node").keys() == {"parameter"}
    assert list(states) == ["idle", "a face at 30 Hz", "worker stopped", "questions of 1 MB"]
    for figures in states.values():
        assert figures.keys() == {"get_state", "parameter", "deactivate", "activate"}
        assert min(figures.values()) > 0
    assert report["end_s"] > 0
    assert {"service_ms_max", "parameter_vs_bare", "within_limits", "limits"} <= set(report)
