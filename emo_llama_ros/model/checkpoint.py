"""The checkpoint folder: what is in it, what it says about itself, and that nobody changed it.

| file | content |
|---|---|
| `config.json` | `EmoLlamaConfig` (or, in a published LLaMA-VID folder, its LLaVA-style config) |
| `model*.safetensors` (+ index) | the tensors, under the names of `EmoLlama.state_dict()` |
| `manifest.json` | `Manifest`: quantization, labels, prompt hash, where it came from |
| `checksums.json` | SHA-256 of every other file |
| tokenizer files, `calibration.json`, `README.md` | copied along |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from emo_llama_ros import __version__
from emo_llama_ros.checksums import file_sha256
from emo_llama_ros.errors import BadCheckpoint, BadParameter, MissingModel
from emo_llama_ros.labels import label_set
from emo_llama_ros.model.configuration import FORMAT, EmoLlamaConfig, FaceConfig
from emo_llama_ros.model.quantization import Method, as_method
from emo_llama_ros.model.shards import Shards, find_shards, read_json, write_json

CONFIG = "config.json"
MANIFEST = "manifest.json"
CHECKSUMS = "checksums.json"
NANO = Path(__file__).parent / "nano"
"""The checkpoint that ships with the package: emo-llama-nano, made by config/train/nano.yaml."""
CALIBRATION = "calibration.json"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a checkpoint of ours says about itself beside its sizes."""

    quantization: Method = "none"
    dtype: str = "bfloat16"
    """Number format of the tensors that are not quantized."""
    label_set: str = "raf-db"
    labels: tuple[str, ...] = ()
    """The labels of `label_set`, spelled out; filled in when left empty."""
    prompt_hash: str = ""
    """Hash of the prompt templates the model was trained or converted with."""
    base: str = ""
    """Name of the folder it was made from."""
    adapters: tuple[str, ...] = ()
    """Names of the adapters that were merged, in order."""
    made_by: str = f"emo_llama_ros {__version__}"

    def __post_init__(self) -> None:
        if not self.labels:
            object.__setattr__(self, "labels", label_set(self.label_set).labels)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint folder that was looked at but not loaded."""

    folder: Path
    config: EmoLlamaConfig
    shards: Shards
    manifest: Manifest | None
    """None for a published LLaMA-VID folder."""

    @property
    def published(self) -> bool:
        """Whether tensor names are those of the published LLaMA-VID."""
        return self.manifest is None

    @property
    def quantization(self) -> Method:
        """How the language model's weights are stored."""
        return "none" if self.manifest is None else self.manifest.quantization

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) that identifies the whole folder; empty when it has no checksums."""
        file = self.folder / CHECKSUMS
        return file_sha256(file) if file.is_file() else ""

    def with_face(self, face: FaceConfig | None) -> Checkpoint:
        """Return the same checkpoint with the face branch of `face` in its config."""
        return replace(self, config=replace(self.config, face=face))


def open_checkpoint(folder: Path | str, config: EmoLlamaConfig | None = None) -> Checkpoint:
    """Read what a folder says about itself, ours or published LLaMA-VID; raise MissingModel or BadCheckpoint.

    `config` takes the place of a published `config.json`, which does not tell the sizes of vision tower and Q-Former
    and so is read as a model of the published sizes.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise MissingModel(
            f"There is no checkpoint folder {folder}; make one with `emo_llama convert` or `emo_llama train`."
        )
    values = read_json(folder / CONFIG)
    shards = find_shards(folder)
    if "format" not in values:
        return Checkpoint(folder, config or EmoLlamaConfig.from_llava_dict(values), shards, None)
    if config is not None:
        raise BadParameter(f"{folder} describes itself completely; its config cannot be replaced.")
    return Checkpoint(folder, EmoLlamaConfig.from_dict(values), shards, read_manifest(folder))


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json`; unknown fields of later versions are left alone."""
    values = read_json(folder / MANIFEST)
    known = {f.name: values[f.name] for f in fields(Manifest) if f.name in values}
    for name in ("labels", "adapters"):
        known[name] = tuple(known.get(name, ()))
    return Manifest(**(known | {"quantization": as_method(known.get("quantization", "none"))}))


def face_config_of(adapter: Path) -> FaceConfig | None:
    """Return the face branch that an adapter folder brings along, from its `config.json`; None when it has none."""
    file = adapter / CONFIG
    if not file.is_file():
        return None
    values = read_json(file)
    return EmoLlamaConfig.from_dict(values).face if values.get("format") == FORMAT else None


def write_description(folder: Path, config: EmoLlamaConfig, manifest: Manifest) -> None:
    """Write `config.json` and `manifest.json`."""
    write_json(folder / CONFIG, config.to_dict())
    write_json(folder / MANIFEST, asdict(manifest))


def write_checksums(folder: Path) -> None:
    """Write the SHA-256 of every file of `folder` to `checksums.json`; call it last."""
    files = sorted(file for file in folder.rglob("*") if file.is_file() and file.name != CHECKSUMS)
    write_json(
        folder / CHECKSUMS,
        {"algorithm": "sha256", "files": {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}},
    )


def verify_checksums(folder: Path, progress: Callable[[int], None] = lambda count: None) -> bool:
    """Compare every file with `checksums.json`; return False when there is none.

    `progress` gets the number of bytes read since the last call. Raises BadCheckpoint naming a file that is missing or
    changed.
    """
    if not (folder / CHECKSUMS).is_file():
        return False
    files = read_json(folder / CHECKSUMS).get("files")
    if not isinstance(files, dict):
        raise BadCheckpoint(f"{folder / CHECKSUMS} lists no files; convert the checkpoint again.")
    for name, expected in files.items():
        file = folder / name
        if not file.is_file():
            raise BadCheckpoint(f"{folder} lacks the file {name} that its checksums list; copy it again.")
        if file_sha256(file, progress) != expected:
            raise BadCheckpoint(
                f"{file} is not the file that was written (its SHA-256 differs); copy the folder again, or delete "
                f"{CHECKSUMS} if you changed it on purpose."
            )
    return True
