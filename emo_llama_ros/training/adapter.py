"""LoRA on the language model, and the folder that holds what a run trained.

The folder is what `model.adapters` reads: peft's `adapter_config.json` and `adapter_model.safetensors`, the fully
trained tensors in `non_lora_trainables.safetensors`, and the `config.json` that brings the face branch along.
"""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, get_peft_model_state_dict, inject_adapter_in_model
from safetensors.torch import save_file

from emo_llama_ros.model.adapters import LORA_FILES, TRAINABLES_FILES
from emo_llama_ros.model.checkpoint import CONFIG, write_checksums
from emo_llama_ros.model.modeling import EmoLlama
from emo_llama_ros.model.shards import write_json
from emo_llama_ros.training.recipe import LORA_GROUP, Lora, ParameterGroup

_ADAPTER = "default"


def add_lora(model: EmoLlama, lora: Lora) -> ParameterGroup:
    """Put low-rank matrices beside the language model's linears, in place; return the group they train in.

    The second matrix starts at zero, so the model's output does not change. Works on quantized linears too (QLoRA).
    """
    inject_adapter_in_model(lora_config(lora), model, _ADAPTER)
    return ParameterGroup(LORA_GROUP, ("lora_A", "lora_B"), lora.learning_rate)


def lora_config(lora: Lora) -> LoraConfig:
    """Return peft's configuration."""
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=list(lora.target_modules),
        bias="none",
        task_type="CAUSAL_LM",
    )


def save_adapter(model: EmoLlama, lora: Lora | None, folder: Path) -> None:
    """Write everything that was trained into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        name: parameter.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and ".lora_" not in name
    }
    if model.face_branch is not None:
        prefix = "face_branch."
        buffers = {name: b for name, b in model.face_branch.state_dict().items() if name not in _parameters(model)}
        whole |= {f"{prefix}{name}": tensor.detach().cpu().contiguous() for name, tensor in buffers.items()}
    if lora is not None:
        lora_config(lora).save_pretrained(str(folder))
        state = get_peft_model_state_dict(model, adapter_name=_ADAPTER)
        save_file({name: tensor.cpu().contiguous() for name, tensor in state.items()}, str(folder / LORA_FILES[0]))
    save_file(whole, str(folder / TRAINABLES_FILES[0]))
    write_json(folder / CONFIG, model.config.to_dict())
    write_checksums(folder)


def _parameters(model: EmoLlama) -> set[str]:
    assert model.face_branch is not None
    return {name for name, _ in model.face_branch.named_parameters()}
