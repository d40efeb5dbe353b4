"""Whether an expression network reads the sample faces as anybody would: a look at the order of its labels."""

from __future__ import annotations

from emo_llama_ros.errors import MissingModel
from emo_llama_ros.faces.face import FaceAnalyzer
from emo_llama_ros.install.fetch import media_file
from emo_llama_ros.labels import RAF_DB

SAMPLES = {
    "0-f1-su-ph.jpg": "surprise",
    "0-f15-hao-ph.jpg": "happiness",
    "15-f13-anc-ph.jpg": "anger",
    "45-m7-di-ph.jpg": "disgust",
}
"""Posed faces of `emo_llama fetch --media` and what they show."""
PLAINEST = "happiness"
"""What every network of use reads from its sample."""


def label_disagreement(analyzer: FaceAnalyzer) -> str:
    """Return a sentence when a network misreads the plainest sample face, or more than half of all; else "".

    Also "" where the sample media were not fetched. Labels that the network does not have are not asked for.
    """
    from emo_llama_ros.images.files import read_picture

    read: dict[str, str] = {}
    known: set[str] = set()
    for name, shown in SAMPLES.items():
        try:
            faces = analyzer.analyze(read_picture(media_file(name)))
        except MissingModel:
            return ""
        if faces and faces[0].expression is not None:
            read[shown] = RAF_DB.labels[int(faces[0].expression.argmax())]
            known |= {label for label, p in zip(RAF_DB.labels, faces[0].expression, strict=True) if p > 0}
    asked = [shown for shown in read if shown in known]
    right = [shown for shown in asked if read[shown] == shown]
    if 2 * len(right) >= len(asked) and (PLAINEST not in asked or PLAINEST in right):
        return ""
    wrong = ", ".join(f"{shown} as {read[shown]}" for shown in asked if shown not in right)
    return (
        f"The expression network reads sample faces that show {wrong}: check the order of the labels and the kind of "
        "pixels in the file that expression_labels names."
    )
