import json
import os
import subprocess
import sys

import pytest


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_load_memory_benchmark_measures_every_part_at_a_tiny_size(repository):
    done = subprocess.run(
        [sys.executable, "benchmarks/load_memory.py", "--size", "tiny"],
        cwd=repository,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout.splitlines()[-1])
    for part in ("load_quantizing", "convert", "load_converted"):
        assert figures[part]["peak_rss"] >= figures[part]["rss_before"] > 0
        assert figures[part]["model_bytes"] < figures["checkpoint_bytes"]
    assert figures["load_converted"]["model_bytes"] == figures["convert"]["model_bytes"]
