"""Clips of real faces that show a known expression: the sample media of `emo_llama fetch --media`, and given pictures.

What trains and what is held out is decided in `training/synthetic/recordings.py`; what the media show was annotated by
eye. All clips are made by the product's own face networks, so they need `emo_llama fetch --media`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from expression_calibration import SPANS

from emo_llama_ros.data.datasets import read_frames
from emo_llama_ros.data.datasets.clip_source import Faces, clip_of
from emo_llama_ros.errors import BadData
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.frames import SECOND_NS, Frame, RgbImage
from emo_llama_ros.images.converter import make_converter
from emo_llama_ros.images.files import is_hidden, medium_of
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.labels import RAF_DB, canonical
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.perception.perception import Perception
from emo_llama_ros.perception.stamps import FrameGate
from emo_llama_ros.recordings.media import START_NS, file_frames
from emo_llama_ros.training.synthetic.recordings import SOURCES, Alteration

PICTURES = {
    "0-f1-su-ph.jpg": "surprise",
    "0-f15-hao-ph.jpg": "happiness",
    "15-f13-anc-ph.jpg": "anger",
    "45-m7-di-ph.jpg": "disgust",
}
"""The held-out pictures and what the people in them were asked to pose."""
HELD_OUT_VIDEO = "WolfgangLanger_Pexels.mp4"
TRAINED_VIDEO = "single_face.mp4"
PACKAGED, GIVEN = "sample pictures", "given pictures"


@dataclass(frozen=True, slots=True)
class LabelledClip:
    """One clip and what it shows."""

    source: str
    """PACKAGED, GIVEN or the name of a video."""
    file: str
    name: str
    """Tells it from all others."""
    label: str
    """In RAF_DB; empty where nobody annotated it."""
    clip: Clip | None
    """None where no face was found."""
    still: bool = False
    """Whether it is a single image."""
    altered: bool = False


def picture_clips(
    pictures: list[tuple[Path, str]], source: str, copies: int, seed: int, analyzer: FaceAnalyzer, options: Options
) -> Iterator[LabelledClip]:
    """Yield each picture, and `copies` altered copies of it, as a single image and held for a clip of 8 frames.

    Alterations are those of the training (mirror, scale, blur, light, rotation, noise), drawn from other seeds; noise
    differs between the frames of a clip. `pictures` are (file, label).
    """
    period_ns = round(options.clip_s * SECOND_NS / options.clip_frames)
    for number, (path, label) in enumerate(pictures):
        rgb = read_frames(path, 1)[0].rgb
        for copy in range(copies + 1):
            alter = Alteration.draw(np.random.default_rng((seed, number, copy))) if copy else Alteration()
            shots = _shots(rgb, alter, options.clip_frames) if copy else [rgb] * options.clip_frames
            frames = [Frame(i * period_ns, "", image) for i, image in enumerate(shots)]
            for still, shown in ((True, frames[:1]), (False, frames)):
                name = f"{path}, copy {copy}, {len(shown)} frames"
                clip = clip_of(shown, name, Faces.DETECT, analyzer, options)
                yield LabelledClip(source, path.name, name, label, clip, still, altered=copy > 0)


def video_clips(name: str, analyzer: FaceAnalyzer, options: Options) -> Iterator[LabelledClip]:
    """Yield the clips that the node would cut out of a sample video, labelled by what their newest frame shows."""
    shown = trained_label if name == TRAINED_VIDEO else held_out_label
    gate, converter = FrameGate(options), make_converter(options)
    perception = Perception(options, analyzer)
    for raw in file_frames([media_file(name)]):
        if gate.judge(raw.stamp_ns) != "wanted":
            continue
        for clip in perception.observe(converter.decode(raw)).due:
            at_s = (clip.stamp_ns - START_NS) / SECOND_NS
            yield LabelledClip(name, name, f"{name}, {at_s:.3f} s", shown(at_s), clip)


def held_out_label(at_s: float) -> str:
    """Return what the held-out video plainly displays at a time, "" where that is open to doubt."""
    spans = ((label, start, end) for file, label, start, end in SPANS if file == HELD_OUT_VIDEO)
    return next((label for label, start, end in spans if start <= at_s < end), "")


def trained_label(at_s: float) -> str:
    """Return the label that the training gave the trained-on video at a time."""
    (course,) = (source.course for source in SOURCES if source.file == TRAINED_VIDEO)
    return next(label for start, label in reversed(course) if at_s >= start - 1e-6)


def labelled_pictures(folder: Path, report: Callable[[str], None] = lambda line: None) -> list[tuple[Path, str]]:
    """Return (file, label) of the pictures in a folder, sorted; raise BadData when no file there names a label.

    A subfolder names the label of all in it; elsewhere the letters that the file's name begins with do ("happy_2.jpg").
    `report` hears of the pictures that name none.
    """
    files = sorted(p for p in folder.rglob("*") if not is_hidden(p, folder) and medium_of(p) == "picture")
    found = [(path, label) for path in files if (label := _named(path, folder))]
    if not found:
        raise BadData(
            f"No picture in {folder} names a label; name subfolders or files by one of {', '.join(RAF_DB.labels)}."
        )
    if len(found) < len(files):
        report(f"{len(files) - len(found)} of {len(files)} pictures in {folder} name no label and are left out.")
    return found


def _named(path: Path, root: Path) -> str:
    words = [*path.relative_to(root).parts[:-1], *re.findall(r"^[^\W\d_]+", path.stem)]
    return next((label for word in words if (label := canonical(word)) in RAF_DB.labels), "")


def _shots(rgb: RgbImage, alter: Alteration, count: int) -> list[RgbImage]:
    if not alter.noise:
        return [alter(rgb)] * count
    return [replace(alter, seed=alter.seed + i)(rgb) for i in range(count)]
