"""Everything that describes an EMO-LLaMA: sizes and switches, as data. Free of torch.

Sizes and defaults are those of the published LLaMA-VID 7B at 224 px (dvlab-research/LLaMA-VID, model and builder code).
The face branch has no published numbers; each of its choices is a field of `FaceConfig`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeVar

from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.evidence.priors import UNIT_NUMBERS

FORMAT = "emo_llama_ros/1"


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The frozen EVA-CLIP vision transformer (ViT-g/14 without its last block and final norm)."""

    hidden_size: int = 1408
    intermediate_size: int = 6144
    num_hidden_layers: int = 39
    num_attention_heads: int = 16
    image_size: int = 224
    patch_size: int = 14
    layer_norm_eps: float = 1e-6

    @property
    def num_patches(self) -> int:
        """Patches of one frame, without the class token."""
        return (self.image_size // self.patch_size) ** 2


@dataclass(frozen=True, slots=True)
class QFormerConfig:
    """An InstructBLIP-style querying transformer: learned queries read the image under the words of the prompt."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    vocab_size: int = 30523
    """bert-base-uncased plus `[DEC]` as the last id."""
    max_position_embeddings: int = 512
    cross_attention_frequency: int = 2
    layer_norm_eps: float = 1e-12
    num_query: int = 32
    max_prompt_tokens: int = 256
    """Longer prompts lose their beginning."""
    dropout: float = 0.1


@dataclass(frozen=True, slots=True)
class LlmConfig:
    """The LLaMA language model (Vicuna-7B v1.5)."""

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int = 32
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    rope_linear_factor: float = 1.0
    """Positions are divided by this (linear RoPE scaling); the long-video model uses 16."""
    tie_word_embeddings: bool = False
    bos_token_id: int = 1
    eos_token_id: int = 2
    pad_token_id: int = 0


# The 68 landmarks of the iBUG layout, in order: jaw, brows, nose, eyes, mouth.
IBUG_68 = (17, 10, 9, 12, 20)


@dataclass(frozen=True, slots=True)
class FaceConfig:
    """Face Info Mining and its aggregator: what is known about a face becomes tokens of the language model.

    A prior whose size is 0 is not used. At least one is needed.
    """

    embedding_dim: int = 256
    """Global prior: channels of the face embedding (a vector) or of the face feature map."""
    embedding_is_map: bool = True
    """True: the embedding is a feature map (E, h, w), pooled to global_grid x global_grid tokens. False: a vector."""
    embedding_source: str = "analyzer"
    """'analyzer': the features that the face networks give. 'expression': the natural logarithm of their seven
    expression probabilities, which every expression network gives."""
    global_grid: int = 7
    global_tokens: int = 1
    """Tokens made from an embedding vector; a map gives global_grid² tokens instead."""
    landmark_regions: tuple[int, ...] = IBUG_68
    """Local priors: number of landmarks in each face region, in order; empty when landmarks are not used."""
    landmark_hidden_size: int = 256
    landmark_pooling: bool = False
    """True: each region is one token, the mean of its points after the attention; False: each point is one."""
    evidence_dim: int = 0
    """Entries of a vector of measured facts (expression probabilities, action units, …); NaN marks an unknown entry."""
    units: tuple[int, ...] = UNIT_NUMBERS
    """FACS numbers of the action units that the model knows, in the order of its evidence; it is shown no others."""
    evidence_hidden_size: int = 256
    evidence_tokens: int = 1
    hidden_size: int = 768
    num_attention_heads: int = 12
    layer_norm_eps: float = 1e-5
    aggregator: QFormerConfig = field(
        default_factory=lambda: QFormerConfig(num_hidden_layers=4, num_query=2, dropout=0.1)
    )
    """Q-Former over the priors' tokens; num_query is the number of face tokens per frame (or per clip, see scope)."""
    scope: str = "frame"
    """'frame': face tokens stand right after each frame's visual tokens. 'clip': once, after the whole clip."""
    max_frames: int = 16
    """Longest clip of scope 'clip', which learns one position embedding per frame."""

    @property
    def num_landmarks(self) -> int:
        """Landmarks per face."""
        return sum(self.landmark_regions)

    @property
    def num_global_tokens(self) -> int:
        """Tokens of the global prior, per face."""
        if not self.embedding_dim:
            return 0
        return self.global_grid**2 if self.embedding_is_map else self.global_tokens

    def __post_init__(self) -> None:
        if self.scope not in ("frame", "clip"):
            raise BadCheckpoint(f"Face tokens can have the scope 'frame' or 'clip', not '{self.scope}'.")
        if self.embedding_source not in ("analyzer", "expression"):
            raise BadCheckpoint(f"The face embedding is 'analyzer' or 'expression', not '{self.embedding_source}'.")
        if not (self.embedding_dim or self.landmark_regions or self.evidence_dim):
            raise BadCheckpoint("The face branch needs an embedding, landmarks or evidence; switch it off instead.")


@dataclass(frozen=True, slots=True)
class EmoLlamaConfig:
    """An EMO-LLaMA. Without `face` it is LLaMA-VID; without `vision` its only visual tokens are face tokens."""

    llm: LlmConfig = field(default_factory=LlmConfig)
    vision: VisionConfig | None = field(default_factory=VisionConfig)
    qformer: QFormerConfig | None = field(default_factory=QFormerConfig)
    face: FaceConfig | None = None
    compress_type: str | None = "mean"
    """Content tokens of a frame: 'mean' gives one, 'grid:g' pools the patch map, None keeps every patch."""
    mm_vision_select_feature: str = "patch"
    """'patch' drops the class token when the number of rows is odd, as the original does; 'cls_patch' keeps it."""
    mm_projector_type: str = "mlp2x_gelu"
    image_aspect_ratio: str = "pad"
    """'pad' pads images (never video frames) to a square; anything else cuts the sides off."""
    visual_norm_eps: float = 1e-5
    """Of the layer norm between vision tower and Q-Former."""
    evidence_note: bool = False
    """The model was trained to read the measured facts as words before the question for the label, and its published
    answer before the first question after it."""

    def __post_init__(self) -> None:
        if (self.vision is None) != (self.qformer is None):
            raise BadCheckpoint("Vision tower and Q-Former come together: give both or neither.")
        if self.vision is None and self.face is None:
            raise BadCheckpoint("A model with neither a vision tower nor a face branch can see nothing.")
        if self.vision is not None:
            _check_compress_type(self.compress_type, self.vision, self.mm_vision_select_feature)
            projector_depth(self.mm_projector_type)

    @property
    def content_tokens(self) -> int:
        """Content tokens per frame; the context token comes on top."""
        if self.vision is None:
            return 0
        grid = grid_size(self.compress_type)
        if grid is not None:
            side = self.vision.image_size // self.vision.patch_size
            return (side // (side // grid)) ** 2
        if self.compress_type == "mean":
            return 1
        rows = self.vision.num_patches + 1
        return rows - 1 if self.mm_vision_select_feature == "patch" and rows % 2 else rows

    @property
    def visual_tokens_per_frame(self) -> int:
        """Context and content tokens per frame; 0 without a vision tower."""
        return 1 + self.content_tokens if self.vision else 0

    @property
    def face_tokens_per_frame(self) -> int:
        """Face tokens of a frame that has a face; 0 without a face branch or with face tokens per clip."""
        return self.face.aggregator.num_query if self.face and self.face.scope == "frame" else 0

    def to_dict(self) -> dict[str, Any]:
        """Return a self-describing, JSON-ready dict."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EmoLlamaConfig:
        """Read what `to_dict` wrote; raise BadCheckpoint for another format or unknown fields."""
        if values.get("format") != FORMAT:
            raise BadCheckpoint(
                f"This config has the format '{values.get('format')}', this version reads '{FORMAT}': "
                "convert the checkpoint with `emo_llama convert`."
            )
        rest = {name: value for name, value in values.items() if name != "format"}
        parts = {"llm": LlmConfig, "vision": VisionConfig, "qformer": QFormerConfig, "face": FaceConfig}
        for name, kind in parts.items():
            if rest.get(name) is not None:
                rest[name] = _read(kind, rest[name])
        return _read(cls, rest)

    @classmethod
    def from_llava_dict(
        cls,
        values: Mapping[str, Any],
        *,
        vision: VisionConfig | None = None,
        qformer: QFormerConfig | None = None,
    ) -> EmoLlamaConfig:
        """Read a published LLaVA-style `config.json` of LLaMA-VID, with its missing, odd and outdated fields.

        The file says little about vision tower and Q-Former, since the original hard-wires them; `vision` and
        `qformer` replace those sizes for a model that is not the published one.
        Raise BadCheckpoint where the file asks for something that this model does not have.
        """
        _check_llava(values)
        heads = values.get("num_attention_heads", 32)
        llm = LlmConfig(
            **{f.name: values[f.name] for f in fields(LlmConfig) if values.get(f.name) is not None}
            | {"num_key_value_heads": values.get("num_key_value_heads") or heads}
            | {"rope_linear_factor": _linear_rope_factor(values), "pad_token_id": _pad_token(values)}
        )
        if values.get("rope_theta") is None and isinstance(values.get("rope_parameters"), Mapping):
            llm = replace(llm, rope_theta=values["rope_parameters"].get("rope_theta", llm.rope_theta))
        if vision is None:
            size = re.search(r"-(\d{3})(?!\d)", str(values.get("image_processor") or ""))
            vision = VisionConfig(image_size=int(size.group(1)) if size else VisionConfig().image_size)
        if values.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
            raise BadCheckpoint(
                f"This checkpoint was made for visual features of width {values['mm_hidden_size']}; "
                f"only the EVA vision tower of width {vision.hidden_size} is supported."
            )
        if qformer is None:
            qformer = QFormerConfig(num_query=values.get("num_query") or QFormerConfig().num_query)
            layers = re.search(r"layer:(\d+)", str(values.get("bert_type") or ""))
            if layers:
                qformer = replace(qformer, num_hidden_layers=int(layers.group(1)))
        return cls(
            llm=llm,
            vision=vision,
            qformer=qformer,
            compress_type=normalized_compress_type(values.get("compress_type")),
            mm_vision_select_feature=values.get("mm_vision_select_feature") or "patch",
            # The original's own default for a config without this field.
            mm_projector_type=values.get("mm_projector_type") or "linear",
            image_aspect_ratio=values.get("image_aspect_ratio") or "crop",
        )


def normalized_compress_type(value: str | None) -> str | None:
    """Return 'mean', 'grid:g' or None for any published spelling ('mean_concat' means 'mean')."""
    if value is None or value == "":
        return None
    if "grid" in value:
        return "grid:" + value.split("grid:")[-1]
    return "mean" if "mean" in value else None


def grid_size(compress_type: str | None) -> int | None:
    """Return g of 'grid:g', None for the other compress types; raise BadCheckpoint when g is not a number above 1."""
    if compress_type is None or not compress_type.startswith("grid"):
        return None
    digits = compress_type.removeprefix("grid:")
    if not digits.isdigit() or int(digits) < 2:
        raise BadCheckpoint(f"Grid pooling needs 'grid:g' with a whole number g above 1, not '{compress_type}'.")
    return int(digits)


def projector_depth(mm_projector_type: str) -> int:
    """Return the number of linear layers of the visual projector: 'linear' → 1, 'mlp2x_gelu' → 2."""
    match = re.fullmatch(r"mlp(\d+)x_gelu", mm_projector_type)
    if mm_projector_type != "linear" and not match:
        raise BadCheckpoint(f"The projector type '{mm_projector_type}' is neither 'linear' nor 'mlp<N>x_gelu'.")
    return int(match.group(1)) if match else 1


def emo_llama_7b(*, face: bool = True) -> EmoLlamaConfig:
    """Return the 7B preset: LLaMA-VID 7B at 224 px (two tokens per frame) with, or without, the face branch."""
    return EmoLlamaConfig(face=FaceConfig() if face else None)


def emo_llama_tiny(*, vision: bool = True, face: bool = True) -> EmoLlamaConfig:
    """Return a preset for tests: every part, hidden sizes that differ, and linears that bitsandbytes can pack."""
    qformer = QFormerConfig(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        vocab_size=143,
        max_position_embeddings=64,
        num_query=8,
        max_prompt_tokens=64,
        dropout=0.0,
    )
    return EmoLlamaConfig(
        llm=LlmConfig(
            vocab_size=128,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=512,
        ),
        vision=VisionConfig(72, 314, 2, 4, image_size=56) if vision else None,
        qformer=qformer if vision else None,
        face=FaceConfig(
            embedding_dim=16,
            landmark_hidden_size=24,
            evidence_dim=7,
            evidence_hidden_size=24,
            hidden_size=40,
            num_attention_heads=4,
            embedding_is_map=vision,
            global_grid=3,
            aggregator=replace(qformer, hidden_size=32, num_hidden_layers=2, num_query=2),
        )
        if face
        else None,
    )


_Config = TypeVar("_Config")


def _read(kind: type[_Config], values: Mapping[str, Any]) -> _Config:
    known = {f.name for f in fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - known)
    if unknown:
        raise BadCheckpoint(f"The config has fields that {kind.__name__} does not know: {', '.join(unknown)}.")
    given = dict(values)
    if kind is FaceConfig:
        if "aggregator" in given:
            given["aggregator"] = _read(QFormerConfig, given["aggregator"])
        for name in ("landmark_regions", "units"):
            if name in given:
                given[name] = tuple(given[name])
    return kind(**given)


def _check_compress_type(compress_type: str | None, vision: VisionConfig, select_feature: str) -> None:
    grid = grid_size(compress_type)
    if grid is None:
        if compress_type not in (None, "mean"):
            raise BadCheckpoint(f"The compress type must be 'mean', 'grid:g' or null, not '{compress_type}'.")
        return
    side = vision.image_size // vision.patch_size
    if grid > side:
        raise BadCheckpoint(f"'{compress_type}' asks for more cells than the {side} x {side} patches of a frame.")
    if select_feature != "patch" or vision.num_patches % 2:
        raise BadCheckpoint(
            "Grid pooling needs the patches alone: an even number of them and mm_vision_select_feature 'patch'."
        )


def _check_llava(values: Mapping[str, Any]) -> None:
    kind = values.get("model_type", "llava")
    if kind != "llava":
        raise BadCheckpoint(f"This is a config of a '{kind}' model, not of LLaMA-VID ('llava').")
    bert_type = str(values.get("bert_type") or "qformer_pretrain")
    if "qformer_pretrain" not in bert_type:
        raise BadCheckpoint(f"The text encoder '{bert_type}' is not supported, only the 'qformer_pretrain' kinds are.")
    for name in ("mm_use_im_start_end", "mm_use_im_patch_token"):
        if values.get(name):
            raise BadCheckpoint(f"This checkpoint was trained with {name}, which LLaMA-VID's releases do not use.")


def _linear_rope_factor(values: Mapping[str, Any]) -> float:
    scaling = values.get("rope_scaling") or values.get("rope_parameters") or {}
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind == "default":
        return 1.0
    if kind != "linear":
        raise BadCheckpoint(f"RoPE scaling '{kind}' is not supported, only 'linear' is.")
    return float(scaling["factor"])


def _pad_token(values: Mapping[str, Any]) -> int:
    # Old LLaMA configs write -1 or nothing; Vicuna pads with <unk>.
    given = values.get("pad_token_id")
    return given if given is not None and given >= 0 else 0
