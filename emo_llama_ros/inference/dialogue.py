"""The conversation about a clip, as token ids: what is constant, what the labels are, how it goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

from emo_llama_ros import prompts
from emo_llama_ros.errors import BadCheckpoint
from emo_llama_ros.inference import label_trie
from emo_llama_ros.inference.clip_reader import Prompt
from emo_llama_ros.inference.frame_encoder import VisualPrompt
from emo_llama_ros.labels import LabelSet
from emo_llama_ros.model.merging import IMAGE_TOKEN
from emo_llama_ros.model.processing import PromptIds, TextTokenizer, tokenize_prompt
from emo_llama_ros.prompts import Turn


class Dialogue:
    """Everything that is said to one model about one label set. Tokenized once, since only the clip changes."""

    def __init__(
        self,
        labels: LabelSet,
        tokenizer: TextTokenizer,
        prompt_tokenizer: Callable[[Sequence[str]], PromptIds],
        device: torch.device,
    ) -> None:
        """Raise BadCheckpoint when the tokenizer does not keep the question apart from the label."""
        self.labels, self.tokenizer = labels, tokenizer
        self._prompt_tokenizer, self._device = prompt_tokenizer, device
        self._label_prompts = {video: self.prompt([self.label_turn(video)]) for video in (True, False)}
        answers = {video: [self._answer_ids(video, label) for label in labels.labels] for video in (True, False)}
        if answers[True] != answers[False]:
            raise BadCheckpoint("The tokenizer cuts the labels differently after different questions.")
        self.trie = label_trie.build([ids[:-1] for ids in answers[True]], terminator=tokenizer.eos_id)

    def label_turn(self, video: bool, answer: str | None = None, context: str = "") -> Turn:
        """Return the turn that asks for the label of a clip of several frames (`video`) or of one.

        `context` is a sentence for the language model alone, see `prompts.agr_sentence`.
        """
        return prompts.label_turn(self.labels, video=video, answer=answer, context=context)

    def label_prompt(self, frames: int, context: str = "") -> Prompt:
        """Return the prompt whose answer is the label of a clip of `frames` frames."""
        if not context:
            return self._label_prompts[frames > 1]
        return self.prompt([self.label_turn(frames > 1, context=context)])

    def reasoning_ids(self, frames: int, label_turn: Turn, note: str = "") -> tuple[int, ...]:
        """Return what follows the label prompt until the reasons begin: the label, its end, and the question why.

        `label_turn` is the answered turn of the label; `note` comes before the question.
        """
        asked = self.label_prompt(frames, label_turn.context)
        return self._after(asked, [label_turn, prompts.reasoning_turn(context=note)])

    def prompt(self, turns: Sequence[Turn], words: str = "") -> Prompt:
        """Tokenize a conversation that shows the clip once; the Q-Formers read it under `words`.

        Without `words` they read it under the question of the turn that shows the clip. With the newest question as
        `words`, the clip is read again for that question, as LLaMA-VID's chat does.
        """
        ids = tokenize_prompt(prompts.render(turns), self.tokenizer)
        place = ids.index(IMAGE_TOKEN)
        question = prompts.one_line(words) or prompts.qformer_prompts(turns)[0]
        read = self._prompt_tokenizer([question])
        digest = hashlib.sha256(question.encode()).hexdigest()[:16]
        visual = VisualPrompt(read.ids.to(self._device), read.mask.to(self._device), digest)
        return Prompt(tuple(ids[:place]), tuple(ids[place + 1 :]), visual)

    def _answer_ids(self, video: bool, label: str) -> tuple[int, ...]:
        ids = self._after(self._label_prompts[video], [self.label_turn(video, label)])
        if len(ids) < 2 or ids[-1] != self.tokenizer.eos_id:
            raise BadCheckpoint(f"The tokenizer does not end the label '{label}' with </s>.")
        return ids

    def _after(self, prompt: Prompt, turns: Sequence[Turn]) -> tuple[int, ...]:
        whole = self.prompt(turns)
        known = len(prompt.tail_ids)
        if whole.head_ids != prompt.head_ids or whole.tail_ids[:known] != prompt.tail_ids:
            raise BadCheckpoint("The tokenizer joins the end of the question with the beginning of the answer.")
        return whole.tail_ids[known:]
