"""From a clip of the perception to what the model reads of it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from emo_llama_ros.errors import BadCheckpoint, EmoError
from emo_llama_ros.evidence import priors as facial
from emo_llama_ros.inference.frame_encoder import ClipFrames
from emo_llama_ros.labels import RAF_DB
from emo_llama_ros.model.clip_priors import clip_priors, frame_evidence_names
from emo_llama_ros.model.configuration import EmoLlamaConfig, FaceConfig
from emo_llama_ros.model.processing import preprocess_clip
from emo_llama_ros.perception.clips import Clip


class ClipInputs:
    """Turns clips into `ClipFrames` for one model: pixels and facial priors are made only where they are asked for."""

    def __init__(self, config: EmoLlamaConfig, device: torch.device, dtype: torch.dtype) -> None:
        """Raise BadCheckpoint when the model's face branch reads priors that the face analysis does not measure."""
        self._config, self._device, self._dtype = config, device, dtype
        if config.face is not None:
            _check(config.face)

    @property
    def max_frames(self) -> int:
        """The most frames of a clip that the model reads; 0 for any number."""
        face = self._config.face
        return face.max_frames if face is not None and face.scope == "clip" else 0

    def of(self, clip: Clip, max_frames: int = 0) -> ClipFrames:
        """Return what the model reads of `clip`, of its `max_frames` newest frames if that is not 0.

        Raises EmoError when there is nothing that the model could look at.
        """
        face = self._config.face
        limit = min(max_frames or len(clip.faces), self.max_frames or len(clip.faces), len(clip.faces))
        frames = range(len(clip.faces) - limit, len(clip.faces))
        # On the host still: there it costs nothing to see which frames have a face.
        known = None if face is None else clip_priors(clip, face, frames).to("cpu", self._dtype)
        if self._config.vision is None and (known is None or not known.valid.any()):
            raise EmoError(
                "No frame of this clip has the facial measurements that the model reads; use the face analyzer that "
                "the model was trained with."
            )
        return ClipFrames(
            clip.face_id,
            tuple(clip.stamps_ns[i] for i in frames),
            None if self._config.vision is None else lambda wanted: self._pixels(clip, [frames[i] for i in wanted]),
            None if known is None else lambda wanted: known[torch.tensor(wanted, dtype=torch.long)],
            _version(clip) if face is not None and face.evidence_dim else "",
        )

    def _pixels(self, clip: Clip, frames: Sequence[int]) -> Tensor:
        assert self._config.vision is not None
        # Crops are squares already, padded in the colour that LLaMA-VID pads images with.
        pixels = preprocess_clip([clip.faces[i].crop for i in frames], self._config.vision.image_size, pad=True)
        # Rounded where the model runs, so that no threads of the host have to wake up for it.
        return pixels.to(self._device).to(self._dtype)


def _check(face: FaceConfig) -> None:
    """Compare a face branch with what `faces.priors` gives."""
    of_a_frame = len(frame_evidence_names(face.units))
    wrong, known = None, (len(facial.EVIDENCE_NAMES), of_a_frame)
    if face.embedding_dim and face.embedding_is_map:
        wrong = "a feature map of the face, but the face analysis gives an embedding vector"
    elif face.landmark_regions and face.num_landmarks != len(facial.IBUG_68):
        wrong = f"{face.num_landmarks} landmarks, but the face analysis gives {len(facial.IBUG_68)}"
    elif face.embedding_source == "expression" and face.embedding_dim != len(RAF_DB.labels):
        wrong = f"{face.embedding_dim} expression probabilities, but there are {len(RAF_DB.labels)}"
    elif face.evidence_dim and face.evidence_dim not in known:
        wrong = f"{face.evidence_dim} measured facts, but the face analysis gives {' or '.join(map(str, known))}"
    elif face.evidence_dim == of_a_frame and face.scope != "clip":
        wrong = "the age of frames that it keeps from clip to clip"
    if wrong:
        raise BadCheckpoint(f"The model's face branch reads {wrong}; train it with this version's face analysis.")


def _version(clip: Clip) -> str:
    if clip.baseline is None:
        return ""
    values = np.array([clip.baseline[name] for name in sorted(clip.baseline)], np.float64)
    return hashlib.sha256(values.tobytes()).hexdigest()[:16]
