"""Measure the embedded face analyzer on the sample media: `python benchmarks/faces.py [--quality | --ratios]`.

Without options: CPU milliseconds, median, of each stage for one 640 × 480 frame with one face on one thread, and of
whole frames of several kinds. CPU time is less disturbed by other programs than wall time; unloaded, the two agree.
`--ratios [--faces NPZ]`: today's analyzer beside the previous one (`previous_analyzer.py`), taking turns: a newly found
face in a 640 × 480 frame, a person followed for a second at 10 Hz, the search alone, the expression network with all
its views; with labelled faces (FER+), the share in which no face is found, of tight pictures and with a margin.
`--quality`: how many faces are found, and how many keep their label, when the media are made smaller, blurred, darker
or tilted; the thresholds of `faces.quality` come from `quality.py`. The last line is JSON.
Needs `emo_llama fetch --media`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Measure this source tree, not an installed copy.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from previous_analyzer import PreviousAnalyzer

from emo_llama_ros.faces import blazeface, blendshapes, face_mesh
from emo_llama_ros.faces.alignment import cut, face_roi, margin_crop, mesh_axes
from emo_llama_ros.faces.embedded import EmbeddedAnalyzer
from emo_llama_ros.faces.face import Face, FaceAnalyzer, QualityFlaw
from emo_llama_ros.faces.measures import measure
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.faces.quality import flaws, sharpness
from emo_llama_ros.faces.reader import box_of, make_expression_reader, to_grey
from emo_llama_ros.frames import Frame, RgbImage
from emo_llama_ros.install.fetch import media_file, model_file
from emo_llama_ros.options import Options
from emo_llama_ros.perception.perception import Perception
from emo_llama_ros.perception.tracking import Tracker

PASSES = 60
STILLS = ("0-f1-su-ph.jpg", "0-f15-hao-ph.jpg", "15-f13-anc-ph.jpg", "single_face.jpg")
FRAMES = (("single_face.mp4", (0, 9, 40, 60)), ("WolfgangLanger_Pexels.mp4", (0, 40, 80, 100, 300, 340, 380, 432)))


def main() -> None:
    """Run the chosen measurement and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quality", action="store_true", help="measure accuracy under degradation instead of time")
    parser.add_argument("--ratios", action="store_true", help="measure beside the previous analyzer")
    parser.add_argument("--faces", type=Path, help="npz with images, majority and split, for --ratios")
    parser.add_argument("--count", type=int, default=500, help="how many of these faces")
    parser.add_argument("--split", choices=("training", "publictest"), default="publictest")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    if arguments.ratios:
        result: object = ratios() | (
            missed(arguments.faces, arguments.split, arguments.count) if arguments.faces else {}
        )
    else:
        result = quality() if arguments.quality else times()
    print(json.dumps(result))


def times() -> dict[str, float]:
    """Print and return the median CPU milliseconds of each stage and of whole frames."""
    rgb = _vga_frame()
    options = Options(seed=1)
    analyzer = EmbeddedAnalyzer(options)
    detector = blazeface.BlazeFace(model_file(blazeface.FAR_NETWORK_FILE), model_file(blazeface.NEAR_NETWORK_FILE))
    mesher = face_mesh.FaceMesh(model_file(face_mesh.NETWORK_FILE), model_file(face_mesh.WITNESS_FILE))
    scores = blendshapes.Blendshapes(model_file(blendshapes.NETWORK_FILE))
    reader = make_expression_reader(options)
    (detection,) = detector.detect(rgb)
    mesh = mesher.locate(rgb, detection)
    assert mesh is not None
    grey, box, upright, axes = to_grey(rgb), box_of(mesh), frontal(mesh), mesh_axes(mesh)
    tracker, faces = Tracker(options), analyzer.analyze(rgb)
    stamps = iter(range(0, 10**15, 10**8))
    stages: dict[str, Callable[[], object]] = {
        "detect": lambda: detector.detect(rgb),
        "landmarks": lambda: mesher.locate(rgb, detection),
        "landmarks, followed": lambda: mesher.follow(rgb, mesh),
        "blendshapes": lambda: scores.scores(mesh),
        "expression": lambda: reader.read(rgb, grey, axes),
        "pose and measures": lambda: measure(frontal(mesh), 0.3),
        "quality": lambda: flaws(grey, box, mesh, upright.pose, options),
        "crop": lambda: margin_crop(rgb, box),
        "grey": lambda: to_grey(rgb),
        "track": lambda: tracker.update(next(stamps), faces),
        "whole frame, 640 x 480, 1 face": lambda: analyzer.analyze(rgb),
        "whole frame, 640 x 480, nobody": lambda: analyzer.analyze(np.zeros_like(rgb)),
    }
    group = _still("multi_face.jpg")
    large: RgbImage = np.asarray(cv2.resize(rgb, (1920, 1080)), np.uint8)
    stages["whole frame, 1000 x 667, 5 faces"] = lambda: analyzer.analyze(group)
    stages["whole frame, 1920 x 1080, 1 face"] = lambda: analyzer.analyze(large)
    stages["found but not read, 1000 x 667, 5 faces"] = lambda: analyzer.find(group)
    stages["a second of a camera, 640 x 480, 1 known person"] = _second(analyzer, rgb)
    stages["a second of a camera, 1000 x 667, 5 known people"] = _second(analyzer, group)
    result = {name: round(_median_ms(run), 2) for name, run in stages.items()}
    for name, value in result.items():
        print(f"{name:48} {value:7.2f} ms")
    return result


def _second(analyzer: FaceAnalyzer, rgb: RgbImage) -> Callable[[], object]:
    """Return what sees one more second of a stream that has shown the same people for three seconds already."""
    options = Options(seed=1)
    perception, rate_hz = Perception(options, analyzer), options.analysis_rate_hz
    stamps = itertools.count(step=round(1e9 / rate_hz))

    def see(seconds: int = 1) -> None:
        for _ in range(round(seconds * rate_hz)):
            perception.observe(Frame(next(stamps), "camera", rgb))

    see(3)
    return see


def ratios() -> dict[str, float]:
    """Print and return CPU milliseconds of both analyzers and their ratios."""
    rgb = _vga_frame()
    now, before = EmbeddedAnalyzer(Options()), PreviousAnalyzer()
    (face,) = now.find(rgb)
    assert face.landmarks is not None
    grey, axes, reader = to_grey(rgb), mesh_axes(face.landmarks), make_expression_reader(Options())
    pairs: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "new_face": (lambda: now.analyze(rgb), lambda: before.analyze(rgb)),
        "followed_second": (_second(now, rgb), _second(before, rgb)),
        "search": (
            lambda: now._finder._detector.detect(rgb),
            lambda: blazeface._blend(before._detector.search(rgb, 0, 0, 1)),
        ),
    }
    result = {}
    for name, (ours, theirs) in pairs.items():
        ms, base = _medians_ms(ours, theirs, 5 if name == "followed_second" else 20)
        result |= {f"{name}_ms": round(ms, 2), f"base_{name}_ms": round(base, 2), f"{name}_ratio": round(ms / base, 3)}
        print(f"{name:20} {ms:8.2f} ms, before {base:8.2f} ms: {ms / base:.2f} times")
    result["expression_ms"] = round(_median_ms(lambda: reader.read(rgb, grey, axes)), 2)
    print(f"{'expression':20} {result['expression_ms']:8.2f} ms")
    return result


def missed(path: Path, split: str, count: int) -> dict[str, float]:
    """Print and return the shares of labelled faces in which each analyzer finds none."""
    data = np.load(path)
    rows = np.flatnonzero((data["split"] == (split == "publictest")) & (data["majority"] >= 0))
    rows = np.sort(np.random.default_rng(0).permutation(rows)[:count])
    analyzers = {"": EmbeddedAnalyzer(Options()), "base_": PreviousAnalyzer()}
    result: dict[str, float] = {"faces": len(rows)}
    for kind, margin in (("tight", 0), ("margin", 40)):
        images = [
            cv2.copyMakeBorder(cv2.resize(image, (160, 160), interpolation=cv2.INTER_CUBIC), *4 * [margin], 0)
            for image in data["images"][rows]
        ]
        for name, analyzer in analyzers.items():
            none = [not analyzer.find(np.ascontiguousarray(cv2.cvtColor(i, cv2.COLOR_GRAY2RGB))) for i in images]
            result[f"{name}no_face_{kind}"] = round(float(np.mean(none)), 4)
        print(f"no face, {kind}: {result[f'no_face_{kind}']:.3f}, before {result[f'base_no_face_{kind}']:.3f}")
    return result


def quality() -> dict[str, dict[str, float]]:
    """Print and return what is left of detection and labels under each degradation."""
    analyzer = EmbeddedAnalyzer(Options())
    samples = [*(_still(name) for name in STILLS), *(_frame(name, n) for name, numbers in FRAMES for n in numbers)]
    truth = [_first(analyzer, rgb) for rgb in samples]
    noise = np.random.default_rng(0)

    def dark(rgb: RgbImage, face: Face, share: float) -> RgbImage:
        return np.clip(rgb * share + noise.normal(0, 2, rgb.shape), 0, 255).astype(np.uint8)

    def blurred(rgb: RgbImage, face: Face, share: float) -> RgbImage:
        return np.asarray(cv2.GaussianBlur(rgb, (0, 0), share * face.box.width))

    def small(rgb: RgbImage, face: Face, pixels: float) -> RgbImage:
        zoom = pixels / face.box.width
        little = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        image = np.full((480, 640, 3), 90, np.uint8)
        image[: little.shape[0], : little.shape[1]] = little[:480, :640]
        return image

    def tilted(rgb: RgbImage, face: Face, degrees: float) -> RgbImage:
        height, width = rgb.shape[:2]
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.7)
        return np.asarray(cv2.warpAffine(rgb, turn, (width, height)))

    degradations = {
        "width in VGA, px": (small, (20, 24, 30, 36, 48, 64)),
        "blur, face widths": (blurred, (0.01, 0.015, 0.02, 0.025, 0.03, 0.04)),
        "light": (dark, (0.4, 0.2, 0.1, 0.06, 0.04)),
        "tilt, degrees": (tilted, (15, 30, 45, 60)),
    }
    print(f"{len(samples)} faces; label: same as undegraded; flagged: SMALL, BLURRED or DARK")
    print(f"{'':24} {'found':>6} {'label':>6} {'flagged':>8} {'sharpness':>10} {'brightness':>11}")
    result = {}
    for name, (degrade, levels) in degradations.items():
        for level in levels:
            pairs = [(degrade(rgb, face, level), face) for rgb, face in zip(samples, truth, strict=True) if face]
            row = _compare(analyzer, pairs)
            result[f"{name} {level:g}"] = row
            print(f"{name + f' {level:g}':24} {row['found']:6.2f} {row['label']:6.2f} {row['flagged']:8.2f} "
                  f"{row['sharpness']:10.3f} {row['brightness']:11.1f}")  # fmt: skip
    return result


def _compare(analyzer: EmbeddedAnalyzer, pairs: list[tuple[RgbImage, Face]]) -> dict[str, float]:
    found = [(rgb, face, now) for rgb, face in pairs if (now := _first(analyzer, rgb)) is not None]
    pictures = [cut(to_grey(rgb), face_roi(now.landmarks, 1.6, 0.3), 64) for rgb, _, now in found]  # type: ignore[arg-type]
    bad = QualityFlaw.SMALL | QualityFlaw.BLURRED | QualityFlaw.DARK
    same = [now.expression.argmax() == face.expression.argmax() for _, face, now in found]  # type: ignore[union-attr]
    return {
        "found": len(found) / len(pairs),
        "label": float(np.mean(same)) if same else float("nan"),
        "flagged": float(np.mean([bool(now.flaws & bad) for *_, now in found])) if found else float("nan"),
        "sharpness": float(np.median([sharpness(p) for p in pictures])) if found else float("nan"),
        "brightness": float(np.median([p.mean() for p in pictures])) if found else float("nan"),
    }


def _first(analyzer: EmbeddedAnalyzer, rgb: RgbImage) -> Face | None:
    faces = analyzer.analyze(rgb)
    return faces[0] if faces else None


def _still(name: str) -> RgbImage:
    bgr = np.asarray(cv2.imread(str(media_file(name))), np.uint8)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _frame(name: str, number: int) -> RgbImage:
    capture = cv2.VideoCapture(str(media_file(name)))
    for _ in range(number):
        capture.grab()
    bgr = np.asarray(capture.read()[1], np.uint8)
    return np.ascontiguousarray(bgr[:, :, ::-1])


def _vga_frame() -> RgbImage:
    frame = _frame("single_face.mp4", 40)
    return np.ascontiguousarray(cv2.resize(frame[:, 20:500], (640, 480)))


def _medians_ms(first: Callable[[], object], second: Callable[[], object], passes: int) -> tuple[float, float]:
    """Return the medians of two things that take turns, so that other programs disturb both alike."""
    first(), second()
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(passes):
        for run, times in zip((first, second), taken, strict=True):
            begin = time.process_time()
            run()
            times.append(time.process_time() - begin)
    return statistics.median(taken[0]) * 1000, statistics.median(taken[1]) * 1000


def _median_ms(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(PASSES):
        begin = time.process_time()
        run()
        taken.append(time.process_time() - begin)
    return statistics.median(taken) * 1000


if __name__ == "__main__":
    main()
