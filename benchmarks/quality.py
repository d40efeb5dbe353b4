"""Measure what the quality flags are worth: `python benchmarks/quality.py --faces SOURCE [--count 150]`.

Labelled faces (SOURCE is FER+ in any layout that `emo_llama_ros.data.ferplus` reads: PublicTest, or, to choose
thresholds, the faces of Training that emo-eyes was not trained on) are damaged in one way at a time: each in every
kind, at one of its levels. Heads are turned as `turning.py` says, those that face the camera only. `--minutes` ends it
early, with what was read by then. For every measure of `faces.quality` and the pose: how well it foretells that the
expression network is wrong (AUROC over the undamaged faces and those with the damage it is meant for), for every flag
the accuracy on faces with and without it, and the accuracy by the angle that was measured. Faces that are not found are
counted apart. The last line is JSON. Run it again whenever the expression network changes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from itertools import repeat
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Measure this source tree, not an installed copy.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from turning import turned

from emo_llama_ros.data.ferplus import SPLITS, VotedFaces, read_voted_faces
from emo_llama_ros.faces.embedded import EmbeddedAnalyzer
from emo_llama_ros.faces.face import Face, FloatArray, QualityFlaw
from emo_llama_ros.faces.pose import frontal
from emo_llama_ros.faces.quality import measure_quality
from emo_llama_ros.faces.reader import located, to_grey
from emo_llama_ros.frames import RgbImage
from emo_llama_ros.labels import FERPLUS, RAF_DB
from emo_llama_ros.options import Options

EYES_SEED = 11
"""The seed in config/train/eyes.yaml, which decides what of Training was held out."""
SIDE = 144
"""The 48 × 48 pictures are shown at this size."""
FACING_DEG = 20.0
"""Only faces turned less than this are turned further: of others half the skin that comes to light was never seen."""
ANGLES = (0, 10, 20, 25, 30, 35, 40, 45, 90)
"""Borders of the angles, in degrees, between which the accuracy is given."""
Damaged = tuple[RgbImage, FloatArray]
"""Picture, and where the landmarks (478, 3) of the undamaged one lie in it."""
MEASURES: dict[str, tuple[int, tuple[str, ...]]] = {
    "sharpness": (-1, ("blur",)),
    "brightness": (-1, ("dark",)),
    "glare": (1, ("bright",)),
    "hidden": (1, ("cut",)),
    "eye_contrast": (-1, ("eyes",)),
    "mouth_contrast": (-1, ("mouth",)),
    "width": (-1, ("small",)),
    "yaw": (1, ("turn",)),
    "pitch": (1, ("tilt",)),
}
"""Measure → sign that makes more of it worse, and the kinds of damage that it is meant for."""


def main() -> None:
    """Damage, read, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", required=True, help="FER+: a folder in an official layout, or an .npz")
    parser.add_argument("--count", type=int, default=150, help="how many faces")
    parser.add_argument("--split", choices=("held-out", "publictest"), default="publictest")
    parser.add_argument("--damages", nargs="+", default=KINDS, choices=KINDS, metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--keep", action="store_true", help="keep the landmarks of the undamaged face: quicker")
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no face after so long")
    parser.add_argument("--rows", type=Path, help="where to write every reading, one JSON object a line")
    arguments = parser.parse_args()
    images, labels = labelled(read_voted_faces(arguments.faces), arguments.split, arguments.count)
    rows = read_all(images, labels, arguments.damages, arguments.keep, arguments.minutes)
    if arguments.rows:
        arguments.rows.write_text("\n".join(json.dumps(row, default=_plain) for row in rows) + "\n", encoding="utf-8")
    result = {"faces": len({row["face"] for row in rows}), **of_damage(rows), **of_measures(rows), **of_flags(rows)}
    result |= of_angles(rows)
    print(json.dumps(result))


def _plain(value: object) -> object:
    return value.value if isinstance(value, QualityFlaw) else float(value)  # type: ignore[arg-type]


def labelled(faces: VotedFaces, split: str, count: int) -> tuple[np.ndarray, list[str]]:
    """Return grey pictures (N, 48, 48) with their majority labels, as many of each label as there are."""
    if split == "held-out":
        # Here, because every process would wait for the training's libraries.
        from emo_llama_ros.training.eyes.recipe import Faces
        from emo_llama_ros.training.eyes.targets import split_training

        _, wanted = split_training(faces, Faces().held_out, EYES_SEED)
    else:
        wanted = faces.split == SPLITS.index("validation")
    random, each = np.random.default_rng(0), -(-count // len(RAF_DB.labels))
    chosen = [
        random.permutation(np.flatnonzero(wanted & (faces.majority == FERPLUS.labels.index(name))))[:each]
        for name in RAF_DB.labels
    ]
    # Round the labels, so that the first ones are balanced too.
    rows = np.array([row for turn in itertools.zip_longest(*chosen) for row in turn if row is not None])
    return faces.images[rows], [FERPLUS.labels[int(faces.majority[row])] for row in rows]


def read_all(
    images: np.ndarray, labels: list[str], kinds: Sequence[str], keep: bool, minutes: float
) -> list[dict[str, object]]:
    """Return one row for each face and each damage that it gets, on all cores; no new face after so many minutes."""
    end = time.time() + 60 * minutes
    jobs = os.cpu_count() or 1
    parts = [range(first, len(labels), jobs) for first in range(jobs)]
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        return list(
            itertools.chain.from_iterable(
                pool.map(_read_part, parts, repeat(images), repeat(labels), repeat(kinds), repeat(keep), repeat(end))
            )
        )


def _read_part(
    numbers: range, images: np.ndarray, labels: list[str], kinds: Sequence[str], keep: bool, end: float
) -> list[dict[str, object]]:
    cv2.setNumThreads(1)
    analyzer = EmbeddedAnalyzer(Options())
    rows: list[dict[str, object]] = []
    for number in itertools.takewhile(lambda _: time.time() < end, numbers):
        image, label = images[number], labels[number]
        large = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        rgb = np.ascontiguousarray(cv2.copyMakeBorder(cv2.cvtColor(large, cv2.COLOR_GRAY2RGB), *4 * [48], 1))
        found = analyzer.find(rgb)
        if not found:
            continue
        for damage in _of_face(number, kinds):
            if damage.startswith(("turn", "tilt")) and not _faces_camera(found[0]):
                continue
            picture, landmarks = DAMAGES[damage](rgb, found[0], np.random.default_rng([number, 1]))
            known = located(picture, found[0].score, landmarks)
            again = [known] if keep else analyzer.find(picture, [known], everywhere=False)[:1]
            rows.append(_row(analyzer, picture, again, label) | {"face": number, "damage": damage})
    return rows


def _of_face(number: int, kinds: Sequence[str]) -> list[str]:
    """Return the damages of a face: none, and of each of `kinds` one level, which goes round from face to face."""
    levels = {kind: [damage for damage in DAMAGES if _kind(damage) == kind] for kind in ("none", *kinds)}
    return [of_kind[number // len(RAF_DB.labels) % len(of_kind)] for of_kind in levels.values()]


def _kind(damage: str) -> str:
    return damage.split()[0]


def _faces_camera(face: Face) -> bool:
    assert face.landmarks is not None
    pose = frontal(face.landmarks).pose
    return max(abs(pose.yaw), abs(pose.pitch)) < FACING_DEG


def _row(analyzer: EmbeddedAnalyzer, rgb: RgbImage, found: list[Face], label: str) -> dict[str, object]:
    faces = analyzer.read(rgb, found)
    if not faces:
        return {"found": False}
    (face,) = faces
    assert face.landmarks is not None
    assert face.pose is not None
    assert face.expression is not None
    return {
        "found": True,
        "right": RAF_DB.labels[int(face.expression.argmax())] == label,
        "flaws": face.flaws,
        "width": face.box.width,
        "yaw": abs(face.pose.yaw),
        "pitch": abs(face.pose.pitch),
        **asdict(measure_quality(to_grey(rgb), face.landmarks)),
    }


def _moved(face: Face, matrix: np.ndarray) -> FloatArray:
    """Return the landmarks under a (2, 3) map of the picture's points."""
    assert face.landmarks is not None
    zoom = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    plane = face.landmarks[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    return np.column_stack([plane, face.landmarks[:, 2] * zoom]).astype(np.float32)


def _same(face: Face) -> FloatArray:
    assert face.landmarks is not None
    return face.landmarks


def blur(share: float) -> Callable[..., Damaged]:
    """Blur with a sigma of so many face widths."""
    return lambda rgb, face, random: (cv2.GaussianBlur(rgb, (0, 0), share * face.box.width), _same(face))


def light(gain: float) -> Callable[..., Damaged]:
    """Multiply the light, add sensor noise, and clip."""
    return lambda rgb, face, random: (
        np.clip(rgb * gain + random.normal(0, 2, rgb.shape[:2])[..., None], 0, 255).astype(np.uint8),
        _same(face),
    )


def small(pixels: int) -> Callable[..., Damaged]:
    """Make the face so many pixels wide."""

    def degrade(rgb: RgbImage, face: Face, random: np.random.Generator) -> Damaged:
        zoom = pixels / face.box.width
        little = cv2.resize(rgb, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_AREA)
        framed = np.ascontiguousarray(cv2.copyMakeBorder(little, *4 * [20], 1))
        return framed, _moved(face, np.array([[zoom, 0, 20], [0, zoom, 20]]))

    return degrade


def jpeg(quality: int) -> Callable[..., Damaged]:
    """Compress and decompress."""

    def degrade(rgb: RgbImage, face: Face, random: np.random.Generator) -> Damaged:
        _, data = cv2.imencode(".jpg", rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])
        return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8), _same(face)

    return degrade


def roll(degrees: float) -> Callable[..., Damaged]:
    """Turn in the image plane."""

    def degrade(rgb: RgbImage, face: Face, random: np.random.Generator) -> Damaged:
        height, width = rgb.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 0.8)
        return cv2.warpAffine(rgb, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE), _moved(face, matrix)

    return degrade


def cut(share: float) -> Callable[..., Damaged]:
    """Let so much of the face's width or height lie beyond the image's border, on a random side."""

    def degrade(rgb: RgbImage, face: Face, random: np.random.Generator) -> Damaged:
        box, side = face.box, random.integers(4)
        x0 = max(0, int(box.x + share * box.width)) if side == 0 else 0
        y0 = max(0, int(box.y + share * box.height)) if side == 1 else 0
        x1 = int(box.x + (1 - share) * box.width) if side == 2 else rgb.shape[1]
        y1 = int(box.y + (1 - share) * box.height) if side == 3 else rgb.shape[0]
        return np.ascontiguousarray(rgb[y0:y1, x0:x1]), _moved(face, np.array([[1.0, 0, -x0], [0, 1, -y0]]))

    return degrade


def cover(points: tuple[int, ...], kind: str) -> Callable[..., Damaged]:
    """Put a patch over the box around some landmarks: dark (glasses), light (mask) or of the skin's grey (hand)."""

    def degrade(rgb: RgbImage, face: Face, random: np.random.Generator) -> Damaged:
        assert face.landmarks is not None
        plane = face.landmarks[list(points), :2]
        more = 0.12 * face.box.width
        (x0, y0), (x1, y1) = (plane.min(0) - more).astype(int), (plane.max(0) + more).astype(int)
        x0, y0 = max(x0, 0), max(y0, 0)
        height, width = rgb.shape[:2]
        middle = rgb[height // 3 : -height // 3, width // 3 : -width // 3]
        shade = {"dark": 25.0, "light": 215.0, "skin": float(np.median(middle))}[kind]
        texture = cv2.GaussianBlur(random.normal(0, 1, (y1 - y0, x1 - x0)).astype(np.float32), (0, 0), 4)
        patch = shade + 10 * texture / max(float(texture.std()), 1e-3) + random.normal(0, 2, texture.shape)
        covered = rgb.copy()
        target = covered[y0:y1, x0:x1]
        target[:] = np.clip(patch, 0, 255).astype(np.uint8)[: target.shape[0], : target.shape[1], None]
        return covered, _same(face)

    return degrade


def turn(degrees: float) -> Callable[..., Damaged]:
    """Turn the head so far to a random side."""
    return lambda rgb, face, random: turned(rgb, _same(face), float(random.choice([-degrees, degrees])), 0)


def tilt(degrees: float) -> Callable[..., Damaged]:
    """Turn the head so far up, or, where it is negative, down."""
    return lambda rgb, face, random: turned(rgb, _same(face), 0, degrees)


EYES, MOUTH = (33, 133, 362, 263, 159, 386, 145, 374), (61, 291, 0, 17)
DAMAGES: dict[str, Callable[..., Damaged]] = {
    "none": lambda rgb, face, random: (rgb, _same(face)),
    **{f"blur {v:g}": blur(v) for v in (0.02, 0.04, 0.07)},
    **{f"dark {v:g}": light(v) for v in (0.1, 0.04, 0.02)},
    **{f"bright {v:g}": light(v) for v in (1.7, 2.5, 4.0)},
    **{f"small {v}": small(v) for v in (36, 24, 16)},
    **{f"jpeg {v}": jpeg(v) for v in (15, 5)},
    **{f"roll {v}": roll(v) for v in (30, 60)},
    **{f"turn {v}": turn(v) for v in (15, 30, 45, 60)},
    **{f"tilt {v}": tilt(v) for v in (-15, -30, -40, 15, 30, 40)},
    **{f"cut {v:g}": cut(v) for v in (0.15, 0.3)},
    **{f"eyes {kind}": cover(EYES, kind) for kind in ("dark", "light", "skin")},
    **{f"mouth {kind}": cover(MOUTH, kind) for kind in ("dark", "light", "skin")},
}
KINDS = tuple(dict.fromkeys(_kind(damage) for damage in DAMAGES if damage != "none"))


def of_damage(rows: list[dict[str, object]]) -> dict[str, object]:
    """Print and return what is left under each damage."""
    print(f"{'damage':14} {'found':>6} {'acc':>6} {'flagged':>8} {'acc flagged':>12} {'acc not flagged':>16}")
    result: dict[str, dict[str, float]] = {}
    for damage in DAMAGES:
        part = [row for row in rows if row["damage"] == damage]
        if not part:
            continue
        found = [row for row in part if row["found"]]
        flagged = [row for row in found if row["flaws"]]
        clear = [row for row in found if not row["flaws"]]
        result[damage] = {
            "found": len(found) / max(len(part), 1),
            "acc": _accuracy(found),
            "flagged": len(flagged) / max(len(found), 1),
            "acc_flagged": _accuracy(flagged),
            "acc_not_flagged": _accuracy(clear),
        }
        print(
            f"{damage:14} "
            + " ".join(f"{v:{w}.3f}" for v, w in zip(result[damage].values(), (6, 6, 8, 12, 16), strict=True))
        )
    return {"damage": result}


def of_measures(rows: list[dict[str, object]]) -> dict[str, object]:
    """Print and return how well each measure foretells an error, and what threshold would do."""
    print(f"\n{'measure':14} {'n':>5} {'AUROC':>6}   threshold: share flagged, accuracy flagged")
    result = {}
    for name, (sign, kinds) in MEASURES.items():
        part = [r for r in rows if r["found"] and _kind(str(r["damage"])) in ("none", *kinds)]
        values = sign * np.array([float(r[name]) for r in part])  # type: ignore[arg-type]
        right = np.array([bool(r["right"]) for r in part])
        cuts = []
        for share in (0.02, 0.05, 0.1, 0.2, 0.3):
            limit = float(np.quantile(values, 1 - share))
            worse = values >= limit
            cuts.append((round(sign * limit, 3), round(float(worse.mean()), 3), round(float(right[worse].mean()), 3)))
        result[name] = {"n": len(part), "auroc": auroc(values, ~right), "thresholds": cuts}
        print(f"{name:14} {len(part):5} {result[name]['auroc']:6.3f}   "
              + "  ".join(f"{limit:g}: {share:.2f} {acc:.2f}" for limit, share, acc in cuts))  # fmt: skip
    return {"measures": result}


def of_flags(rows: list[dict[str, object]]) -> dict[str, object]:
    """Print and return the accuracy on all faces with and without each flag."""
    print(f"\n{'flag':14} {'n':>5} {'acc with':>9} {'acc without':>12} {'undamaged flagged':>18}")
    found = [row for row in rows if row["found"]]
    whole = [row for row in found if row["damage"] == "none"]
    result = {}
    for flag in QualityFlaw:
        if flag is QualityFlaw.NO_LANDMARKS:
            continue
        having = [row for row in found if row["flaws"] & flag]  # type: ignore[operator]
        others = [row for row in found if not row["flaws"] & flag]  # type: ignore[operator]
        spoilt = float(np.mean([bool(row["flaws"] & flag) for row in whole]))  # type: ignore[operator]
        name = str(flag.name)
        result[name] = {
            "n": len(having),
            "acc_with": _accuracy(having),
            "acc_without": _accuracy(others),
            "clean": spoilt,
        }
        print(f"{name:14} {len(having):5} {_accuracy(having):9.3f} {_accuracy(others):12.3f} {spoilt:18.3f}")
    return {"flags": result}


def of_angles(rows: list[dict[str, object]]) -> dict[str, object]:
    """Print and return the accuracy by the angle that was measured, on undamaged faces and on turned ones."""
    print(f"\n{'angle':14} " + " ".join(f"{low:>5}-{high:<5}" for low, high in itertools.pairwise(ANGLES)))
    result = {}
    for name, kind in (("yaw", "none"), ("yaw", "turn"), ("pitch", "none"), ("pitch", "tilt")):
        part = [row for row in rows if row["found"] and _kind(str(row["damage"])) == kind]
        groups = [[row for row in part if low <= float(row[name]) < high] for low, high in itertools.pairwise(ANGLES)]  # type: ignore[arg-type]
        result[f"{name}, {kind}"] = [(len(group), _accuracy(group)) for group in groups]
        print(f"{f'{name}, {kind}':14} " + " ".join(f"{len(group):4}: {_accuracy(group):.2f}" for group in groups))
    return {"angles": result}


def auroc(values: np.ndarray, bad: np.ndarray) -> float:
    """Return the probability that a wrongly read face has the larger value (ties count half); NaN without both."""
    from scipy.stats import rankdata

    n = int(bad.sum())
    if n in (0, len(bad)):
        return float("nan")
    return float((rankdata(values)[bad].sum() - n * (n + 1) / 2) / (n * (len(bad) - n)))


def _accuracy(rows: list[dict[str, object]]) -> float:
    return float(np.mean([bool(row["right"]) for row in rows])) if rows else float("nan")


if __name__ == "__main__":
    main()
