"""FER+ in every layout that is read, with made-up pictures: patterns of stripes, no faces."""

from dataclasses import dataclass

import cv2
import numpy as np

COLUMNS = "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF"
USAGES = ("Training", "PublicTest", "PrivateTest")
FOLDERS = ("FER2013Train", "FER2013Valid", "FER2013Test")


@dataclass
class Row:
    """A face of the made-up FER2013."""

    usage: str
    name: str
    votes: list
    emotion: int
    image: np.ndarray


def picture(seed):
    """Return a (48, 48) grey pattern that differs for every seed."""
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 256, (6, 6), dtype=np.uint8), (48, 48), interpolation=cv2.INTER_CUBIC)


def faces(count=12, seed=0):
    """Return `count` rows: two thirds for training, one sixth each for the others; row 3 has no name, 1 and 2 equal."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(count):
        usage = USAGES[0 if i < count * 2 // 3 else 1 if i < count * 5 // 6 else 2]
        votes = [*rng.multinomial(10, rng.dirichlet(np.full(8, 0.3))).tolist(), 0, 0]
        name = f"fer{i:07d}.png"
        made.append(Row(usage, name, votes, int(rng.integers(7)), picture(seed * 1000 + i)))
    if count > 3:
        made[3].name, made[3].votes = "", [0] * 9 + [10]
        made[2].image = made[1].image
    return made


def votes_csv(rows):
    """Return the text of fer2013new.csv."""
    return "\n".join([COLUMNS, *(f"{r.usage},{r.name},{','.join(map(str, r.votes))}" for r in rows)]) + "\n"


def pixels_csv(rows):
    """Return the text of fer2013.csv."""
    pixels = (" ".join(map(str, r.image.ravel().tolist())) for r in rows)
    return "\n".join(
        ["emotion,pixels,Usage", *(f"{r.emotion},{p},{r.usage}" for r, p in zip(rows, pixels, strict=True))]
    )


def write_csv(root, rows):
    """Write the two official .csv files."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "fer2013.csv").write_text(pixels_csv(rows))
    (root / "fer2013new.csv").write_text(votes_csv(rows))


def write_folders(root, rows, names=FOLDERS, label_csv=False):
    """Write the pictures, and the votes in one list or in a label.csv per folder."""
    for usage, folder in zip(USAGES, names, strict=True):
        (root / folder).mkdir(parents=True)
        own = [r for r in rows if r.usage == usage and r.name]
        for row in own:
            cv2.imwrite(str(root / folder / row.name), row.image)
        if label_csv:
            listed = [f'{r.name},"(0, 0, 48, 48)",{",".join(map(str, r.votes))}' for r in own]
            (root / folder / "label.csv").write_text("\n".join(listed) + "\n")
    if not label_csv:
        (root / "fer2013new.csv").write_text(votes_csv(rows))


def arrays(rows):
    """Return the arrays that an .npz must have."""
    named = [r for r in rows if r.name]
    return {
        "images": np.stack([r.image for r in named]),
        "votes": np.array([r.votes for r in named], np.uint8),
        "split": np.array([USAGES.index(r.usage) for r in named], np.uint8),
        "fer2013": np.array([r.emotion for r in named], np.uint8),
        "name": np.array([r.name for r in named]),
    }
