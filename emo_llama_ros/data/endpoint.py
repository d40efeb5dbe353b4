"""Write conversations about labelled faces through any OpenAI-compatible vision endpoint (Gemini, vLLM, …)."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from emo_llama_ros.data.answer_check import ANSWER_WORDS, BadAnswer, check_turns, read_turns
from emo_llama_ros.data.writer import ItemFailed, Usage, WriterUnusable
from emo_llama_ros.errors import BadParameter, MissingDependency
from emo_llama_ros.frames import Frame, RgbImage
from emo_llama_ros.prompts import Turn

if TYPE_CHECKING:
    from openai import AsyncOpenAI

SYSTEM = (
    "You write training conversations for a model that describes displayed facial expressions. You are shown a face "
    "and the expression that people agreed on. Describe only what can be seen: movements of brows, eyes, cheeks, nose, "
    "mouth and jaw, and in several frames also what changes. Never say or guess who the person is, their age, gender, "
    "ethnicity or looks, and never what they feel: write 'the person' and 'the face shows'."
)
REQUEST = (
    "The {medium} shows a face labelled '{label}'. Write one or two rounds of question and answer about the displayed "
    "expression. Each answer names the visible movements, at least one names the expression '{label}', and each has "
    f"{ANSWER_WORDS[0]} to {ANSWER_WORDS[1]} words. "
    'Reply with JSON only: {{"rounds": [{{"question": "...", "answer": "..."}}]}}'
)
_JPEG_QUALITY = 90


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """Where and how to ask. Empty texts are read from OPENAI_BASE_URL, OPENAI_API_KEY and EMO_LLAMA_VISION_MODEL."""

    base_url: str = ""
    api_key: str = ""
    model: str = ""
    timeout_s: float = 60.0
    retries: int = 5
    """Repeats after connection errors, timeouts, 408, 409, 429 and 5xx, with exponential back-off."""
    attempts: int = 3
    """How often an unusable answer is asked for again."""
    max_tokens: int = 600
    temperature: float = 0.7


class VisionEndpoint:
    """A vision model behind the OpenAI chat protocol."""

    def __init__(self, settings: EndpointSettings) -> None:
        """Open a client; raise BadParameter when no model is named, MissingDependency without the openai package."""
        try:
            from openai import AsyncOpenAI
        except ImportError:
            raise MissingDependency(
                "Writing conversations needs the openai package: pip install 'emo_llama_ros[train]'."
            ) from None
        self._settings = settings
        self._model = settings.model or os.environ.get("EMO_LLAMA_VISION_MODEL", "")
        if not self._model:
            raise BadParameter("Name the vision model with --model or EMO_LLAMA_VISION_MODEL.")
        self._client: AsyncOpenAI = AsyncOpenAI(
            base_url=settings.base_url or None,
            # Local servers need no key, but the client insists on one.
            api_key=settings.api_key or os.environ.get("OPENAI_API_KEY") or "none",
            timeout=settings.timeout_s,
            max_retries=settings.retries,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def converse(self, frames: Sequence[Frame], label: str) -> tuple[tuple[Turn, ...], Usage]:
        """Return a checked conversation about `frames` (oldest first) and what it cost.

        Raises ItemFailed when the endpoint fails or keeps answering badly, WriterUnusable when asking on is useless.
        """
        medium = "image" if len(frames) == 1 else f"clip of {len(frames)} frames in order"
        content: list[dict[str, Any]] = [{"type": "text", "text": REQUEST.format(medium=medium, label=label)}]
        images = await asyncio.to_thread(lambda: [_data_url(frame.rgb) for frame in frames])
        content += [{"type": "image_url", "image_url": {"url": url}} for url in images]
        messages: list[dict[str, Any]] = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        usage, reason = Usage(), ""
        for _ in range(self._settings.attempts):
            text, cost, finished = await self._ask(messages, usage)
            usage += cost
            try:
                if not finished:
                    raise BadAnswer("The reply was longer than allowed and cut off; be shorter.")
                turns = read_turns(text)
                check_turns(turns, label)
                return turns, usage
            except BadAnswer as fault:
                reason = str(fault)
                messages = [*messages[:2], {"role": "assistant", "content": text}, {"role": "user", "content": reason}]
        raise ItemFailed(reason, usage)

    async def _ask(self, messages: list[dict[str, Any]], spent: Usage) -> tuple[str, Usage, bool]:
        import openai

        try:
            reply = await self._client.chat.completions.create(
                model=self._model,
                messages=messages,  # type: ignore[arg-type]
                max_tokens=self._settings.max_tokens,
                temperature=self._settings.temperature,
            )
        except (openai.AuthenticationError, openai.PermissionDeniedError, openai.NotFoundError) as error:
            raise WriterUnusable(
                f"The vision endpoint refused: {_reason(error)} Check address, key and model."
            ) from None
        except openai.OpenAIError as error:
            raise ItemFailed(_reason(error), spent) from None
        usage = reply.usage
        cost = Usage(usage.prompt_tokens, usage.completion_tokens) if usage else Usage()
        if not reply.choices:
            return "", cost, True
        choice = reply.choices[0]
        return choice.message.content or "", cost, choice.finish_reason != "length"


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().rstrip('.')}."


def _data_url(rgb: RgbImage) -> str:
    import cv2

    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode()
