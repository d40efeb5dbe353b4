"""Measure how long a fresh process takes to its first label: imports, loading, first and second label.

    python benchmarks/cold_start.py --quick             # the light backend and a tiny random EMO-LLaMA
    python benchmarks/cold_start.py --model FOLDER      # an EMO-LLaMA checkpoint instead of the random one

Every run is a new process, since imports and first calls happen once; figures are medians of at least five, the files
are in the page cache. The last line printed is one JSON object, in seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STAGES = ("import_s", "load_s", "first_label_s", "second_label_s", "first_words_s", "until_first_label_s")


def run_once(backend: str, model: str) -> dict[str, float]:
    """Go from nothing to two labels in this process; return the seconds of each stage."""
    begin = time.perf_counter()
    from emo_llama_ros.backends.registry import make_backend
    from emo_llama_ros.options import Options

    made = make_backend(Options().with_values({"backend": backend, "model_path": model}))
    imported = time.perf_counter()
    made.load()
    loaded = time.perf_counter()
    clips = [_clip(first) for first in (0, 1)]
    answer = made.label([clips[0]])[0]
    labelled = time.perf_counter()
    made.label([clips[1]])
    again = time.perf_counter()
    next(iter(made.explain(clips[0], answer)), "")
    spoken = time.perf_counter()
    assert answer.probabilities, answer.message
    stages = (imported - begin, loaded - imported, labelled - loaded, again - labelled, spoken - again)
    return dict(zip(STAGES, (*stages, labelled - begin), strict=True))


def _clip(first: int) -> Any:
    import numpy as np

    from emo_llama_ros.faces.face import Box, Face
    from emo_llama_ros.faces.face_mesh import POINTS
    from emo_llama_ros.faces.measures import NAMES
    from emo_llama_ros.perception.clips import Clip

    random = np.random.default_rng(0)
    face = Face(
        Box(200, 200, 100, 100),
        0.9,
        random.integers(0, 255, (224, 224, 3), np.uint8),
        landmarks=random.uniform(200, 300, (POINTS, 3)).astype(np.float32),
        expression=np.full(7, 1 / 7, np.float32),
        measures=dict.fromkeys(NAMES, 0.3),
        embedding=random.normal(size=128).astype(np.float32),
    )
    return Clip("a", "camera", tuple(range(first, first + 8)), (face,) * 8)


def measure(backend: str, model: str, runs: int) -> dict[str, float]:
    """Return the medians over `runs` fresh processes."""
    command = [sys.executable, __file__, "--once", backend, "--model", model]
    results = []
    for _ in range(runs):
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"})
        if done.returncode:
            sys.exit(f"The {backend} backend did not start:\n{done.stderr}")
        results.append(json.loads(done.stdout.splitlines()[-1]))
    return {stage: round(statistics.median(result[stage] for result in results), 4) for stage in STAGES}


def random_checkpoint(folder: Path) -> Path:
    """Write a tiny random EMO-LLaMA with real tokenizers."""
    sys.path.insert(0, str(ROOT / "test" / "model"))
    from tiny_checkpoint import TinyCheckpoints

    return TinyCheckpoints(folder).ours(face=False)


def main() -> None:
    """Start each backend several times and print the JSON line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="five runs each instead of nine")
    parser.add_argument("--model", default="", help="checkpoint folder; without one, a tiny random model is made")
    parser.add_argument("--once", default="", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.once:
        print(json.dumps(run_once(args.once, args.model)))
        return
    runs = 5 if args.quick else 9
    with tempfile.TemporaryDirectory() as scratch:
        model = args.model or str(random_checkpoint(Path(scratch)))
        report: dict[str, Any] = {
            "expression": measure("expression", "", runs),
            "emo_llama": measure("emo_llama", model, runs),
        }
    report["model"] = Path(model).name if args.model else "tiny random"
    report["cores"] = len(os.sched_getaffinity(0))
    report["runs"] = runs
    for name in ("expression", "emo_llama"):
        print(name, report[name])
    print(json.dumps(report))


if __name__ == "__main__":
    main()
