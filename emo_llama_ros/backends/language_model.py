"""EMO-LLaMA: the label from the logits, then the model's own reasons and answers from the same keys and values."""

from __future__ import annotations

import logging
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from emo_llama_ros import calibration, prompts
from emo_llama_ros.backends.backend import LabelAnswer, ModelInfo
from emo_llama_ros.errors import BadCheckpoint, EmoError, OutOfMemory
from emo_llama_ros.estimate import ActionUnit, Status
from emo_llama_ros.evidence import UNITS, answer_note, evidence_note
from emo_llama_ros.evidence.action_units import measured_units
from emo_llama_ros.evidence.clip_measures import clip_facts
from emo_llama_ros.evidence.priors import UNIT_NUMBERS
from emo_llama_ros.inference.clip_inputs import ClipInputs
from emo_llama_ros.inference.clip_reader import ClipReader, Reading
from emo_llama_ros.inference.cpu_format import Format, choose_format
from emo_llama_ros.inference.decoding import stream_text
from emo_llama_ros.inference.dialogue import Dialogue
from emo_llama_ros.inference.frame_encoder import ClipFrames
from emo_llama_ros.inference.performance import Mode, tune
from emo_llama_ros.labels import label_set
from emo_llama_ros.model.checkpoint import CALIBRATION, NANO, Checkpoint, open_checkpoint
from emo_llama_ros.model.configuration import EmoLlamaConfig
from emo_llama_ros.model.footprint import build_template, memory_need, parameter_count
from emo_llama_ros.model.loading import LoadReport, load_model
from emo_llama_ros.model.memory import free_memory, is_out_of_memory, release_memory
from emo_llama_ros.model.placement import DTYPES, SMALL_MODEL_PARAMETERS
from emo_llama_ros.model.processing import BERT_VOCAB_FILE, QFormerTokenizer, load_text_tokenizer
from emo_llama_ros.options import Options
from emo_llama_ros.perception.clips import Clip
from emo_llama_ros.prompts import Turn

logger = logging.getLogger(__name__)

NO_MEMORY = (
    "Memory ran out while the model read this clip, also with fewer frames; close other programs, follow fewer people "
    "(max_faces), or use a smaller model."
)


@dataclass(slots=True)
class _Talk:
    """The conversation about one clip: what `explain` goes on from."""

    frames: int
    reading: Reading
    note: str = ""
    """What the model is told of its published answer, "" for a model that was not trained with notes."""
    turns: list[Turn] = field(default_factory=list)
    """All turns so far, the label's included; every one has its answer."""

    def asked(self, question: str) -> list[Turn]:
        """Return the conversation with one more question; the note stands before the first after the label's."""
        label, first, *later = [*self.turns, _turn(question, None)]
        return [label, replace(first, context=self.note), *later]


class EmoLlamaBackend:
    """Reads clips with an EMO-LLaMA checkpoint."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._labels = label_set(options.label_set)
        self._calibration = calibration.IDENTITY
        self._info: ModelInfo | None = None
        self._reader: ClipReader | None = None
        self.notes: tuple[str, ...] = ()
        """Sentences for the operator about how the model runs, and why so; valid after `load`."""

    @property
    def info(self) -> ModelInfo:
        if self._info is None:
            raise RuntimeError("The backend is not loaded.")
        return self._info

    def load(self) -> None:
        options = self._options
        torch.set_num_threads(options.worker_threads or max(1, len(os.sched_getaffinity(0)) - 1))
        folder = Path(options.model_path).expanduser() if options.model_path else NANO
        checkpoint = open_checkpoint(folder)
        quantization, dtype, notes = self._format(checkpoint)
        model, report = load_model(folder, quantization=quantization, device=options.device, dtype=dtype)
        try:
            placement = report.placement
            self._dialogue = Dialogue(
                self._labels,
                load_text_tokenizer(folder),
                QFormerTokenizer(folder / BERT_VOCAB_FILE, _max_prompt_tokens(model.config)),
                placement.device,
            )
            self._inputs = ClipInputs(model.config, placement.device, placement.dtype)
            self._reads_notes = model.config.evidence_note
            self._units = frozenset(model.config.face.units if model.config.face else UNIT_NUMBERS)
            self._calibration, calibrated = self._find_calibration(folder)
            self._reader = ClipReader(model, self._dialogue.trie)
            mode: Mode = options.performance  # type: ignore[assignment]
            prompt = self._dialogue.label_prompt(options.clip_frames)
            choice = tune(self._reader, mode, prompt, options.clip_frames, options.max_reasoning_tokens)
        except Exception as error:
            self.close()
            del model
            release_memory()
            if is_out_of_memory(error):
                raise OutOfMemory(f"Memory ran out while {folder} was made ready; close other programs.") from error
            raise
        self.notes = (*notes, *report.notes, f"Performance: {choice.reason}", calibrated)
        for note in self.notes:
            logger.info(note)
        if options.clip_frames > self._inputs.max_frames > 0:
            logger.warning(
                "This model reads the newest %d frames of a clip, so of clip_frames=%d the others are not looked at; "
                "set clip_frames to %d.",
                *(self._inputs.max_frames, options.clip_frames, self._inputs.max_frames),
            )
        self._info = self._describe(folder, report)

    def label(self, clips: Sequence[Clip]) -> list[LabelAnswer]:
        answers: dict[int, LabelAnswer] = {}
        frames: dict[int, ClipFrames] = {}
        for i, clip in enumerate(clips):
            try:
                frames[i] = self._inputs.of(clip)
            except EmoError as error:
                answers[i] = _failed(str(error))
        for i, reading in zip(frames, self._score(list(frames.values()), [clips[i] for i in frames]), strict=True):
            answers[i] = _failed(NO_MEMORY) if reading is None else self._answer(clips[i], *reading)
        return [answers[i] for i in range(len(clips))]

    def explain(
        self, clip: Clip, answer: LabelAnswer, question: str = "", cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[str]:
        talk = answer.state
        if not isinstance(talk, _Talk):
            raise EmoError("Only a clip whose label is known can be explained.")
        said: list[str] = []
        try:
            yield from self._speak(clip, talk, question, cancelled, said)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            self._release()
            if said:
                raise OutOfMemory(NO_MEMORY) from error
            # Nothing was said yet: one more try with nothing else in memory.
            try:
                yield from self._speak(clip, talk, question, cancelled, said)
            except Exception as again:
                if not is_out_of_memory(again):
                    raise
                self._release()
                raise OutOfMemory(NO_MEMORY) from again
        if not cancelled():
            talk.turns.append(_turn(question, prompts.one_line("".join(said))))

    def forget(self, face_id: str) -> None:
        if self._reader is not None:
            self._reader.forget(face_id)

    def close(self) -> None:
        self._reader = None
        self._info = None
        release_memory()

    # --- labels ---

    def _score(self, frames: list[ClipFrames], clips: list[Clip]) -> list[tuple[int, str, Reading] | None]:
        """Return frame count, context and reading of each clip; None where memory ran out twice."""
        if not frames:
            return []
        try:
            return self._read(frames, clips)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, which would keep the failed pass's tensors alive.
        self._release()
        self._loaded_reader.max_rows = 1
        readings: list[tuple[int, str, Reading] | None] = []
        for clip in clips:
            try:
                readings += self._read([self._inputs.of(clip, max(1, len(clip.faces) // 2))], [clip])
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                readings.append(None)
                self._release()
        return readings

    def _read(self, frames: list[ClipFrames], clips: list[Clip]) -> list[tuple[int, str, Reading] | None]:
        counts = [len(shown.stamps_ns) for shown in frames]
        contexts = [self._context(clip) for clip in clips]
        asked = [self._dialogue.label_prompt(*of_clip) for of_clip in zip(counts, contexts, strict=True)]
        readings = self._loaded_reader.score(frames, asked)
        return list(zip(counts, contexts, readings, strict=True))

    def _answer(self, clip: Clip, frames: int, context: str, reading: Reading) -> LabelAnswer:
        scores = reading.log_likelihoods.tolist()
        if self._calibration.length_normalized:
            lengths = self._dialogue.trie.lengths
            scores = [score / length for score, length in zip(scores, lengths, strict=True)]
        try:
            probabilities = self._calibration.apply(scores)
        except ValueError:
            return _failed("The model's label scores are not finite numbers: its weights or its number format are bad.")
        label = max(range(len(probabilities)), key=probabilities.__getitem__)
        evidence = measured_units(clip)
        units = tuple(ActionUnit(e.unit, UNITS[e.unit].name, round(e.intensity, 3)) for e in evidence)
        turns = [self._dialogue.label_turn(frames > 1, self._labels.labels[label], context)]
        note = answer_note(self._labels.labels, probabilities) if self._reads_notes else ""
        return LabelAnswer(probabilities, units, frames=frames, state=_Talk(frames, reading, note, turns))

    def _context(self, clip: Clip) -> str:
        """Return what the language model is told in words beside the face tokens."""
        told = [evidence_note(clip_facts(clip, self._labels.labels).of_units(self._units))] if self._reads_notes else []
        if self._options.agr_prompt:
            told.append(apparent_attributes(clip))
        return " ".join(filter(None, told))

    # --- words ---

    def _speak(
        self, clip: Clip, talk: _Talk, question: str, cancelled: Callable[[], bool], said: list[str]
    ) -> Iterator[str]:
        """Yield the answer to `question`, or the reasons for the label, and collect it in `said`."""
        reader, dialogue = self._loaded_reader, self._dialogue
        if not question and len(talk.turns) == 1:
            # The usual case: the keys and values of the label pass are still there.
            reading, more = talk.reading, dialogue.reasoning_ids(talk.frames, talk.turns[0], talk.note)
        else:
            while True:
                asked = talk.asked(question)
                prompt = dialogue.prompt(asked, asked[-1].question)
                room = self._room(len(prompt.head_ids) + len(prompt.tail_ids) + len(talk.reading.embeds))
                if room >= 1 or len(talk.turns) == 1:
                    break
                del talk.turns[1]  # the oldest after the label's
            reading, more = reader.read(self._inputs.of(clip, talk.frames), prompt), ()
        length = len(reading.head_ids) + len(reading.embeds) + len(more)
        tokens = min(self._options.max_reasoning_tokens, self._room(length))
        if tokens < 1:
            raise EmoError("The question is too long for this model; ask a shorter one.")
        stop = frozenset({dialogue.tokenizer.eos_id})
        ids = reader.generate(reading, more, stop, tokens, cancelled)
        for piece in stream_text(ids, dialogue.tokenizer):
            said.append(piece)
            yield piece

    def _room(self, tokens: int) -> int:
        return self._loaded_reader.runner.max_positions - tokens

    # --- loading ---

    @property
    def _loaded_reader(self) -> ClipReader:
        if self._reader is None:
            raise RuntimeError("The backend is not loaded.")
        return self._reader

    def _format(self, checkpoint: Checkpoint) -> tuple[str, str, tuple[str, ...]]:
        """Return quantization and dtype to load with; on a CPU the fastest format of a large model is measured."""
        options = self._options
        automatic = options.quantization == options.dtype == options.performance == "auto"
        on_cpu = options.device == "cpu" or (options.device == "auto" and not torch.cuda.is_available())
        if not automatic or not on_cpu or checkpoint.quantization != "none":
            return options.quantization, options.dtype, ()
        template = build_template(checkpoint.config)
        if parameter_count(template.language_model) < SMALL_MODEL_PARAMETERS:
            return options.quantization, options.dtype, ()
        device = torch.device("cpu")
        free = free_memory(device).free

        def fits(candidate: Format) -> bool:
            return memory_need(template, candidate.quantization, DTYPES[candidate.dtype], device).total <= free

        chosen, reason = choose_format(checkpoint.config.llm, fits)
        return chosen.quantization, chosen.dtype, (f"Number format: {reason}",)

    def _find_calibration(self, folder: Path) -> tuple[calibration.Calibration, str]:
        """Return the calibration and a sentence about it; the model's own may be for other labels, a given one not."""
        if self._options.calibration_file:
            given = Path(self._options.calibration_file).expanduser()
            return calibration.load(given, self._labels), f"Calibration: {given.name}."
        if not (folder / CALIBRATION).is_file():
            return calibration.IDENTITY, "The confidence is not calibrated: the model has no calibration.json."
        try:
            return calibration.load(folder / CALIBRATION, self._labels), "Calibration: the model's own."
        except BadCheckpoint as error:
            return calibration.IDENTITY, f"The confidence is not calibrated. {error}"

    def _describe(self, folder: Path, report: LoadReport) -> ModelInfo:
        placement = report.placement
        device = str(placement.device)
        if placement.device.type == "cuda":
            device += f" {torch.cuda.get_device_name(placement.device)}"
        held = report.quantization if report.quantization != "none" else placement.dtype_name
        name = "emo-llama-nano" if folder == NANO else folder.name
        return ModelInfo(
            backend=self._options.backend,
            model=f"{name}/{held}",
            label_set=self._labels,
            checkpoint=name,
            checksum=report.checkpoint.checksum,
            quantization=report.quantization,
            device=device,
            dtype=placement.dtype_name,
            prompt_hash=prompts.prompt_hash(),
            calibration=self._calibration.description,
        )

    def _release(self) -> None:
        self._loaded_reader.release()
        release_memory()


def apparent_attributes(clip: Clip) -> str:
    """Return the sentence about age and gender as the face networks guess them, "" where they guess none.

    The age is the decade of the median over the clip, the gender that of most frames. Race is never guessed here.
    """
    ages = [face.apparent_age for face in clip.faces if face.apparent_age is not None]
    genders = [face.apparent_gender for face in clip.faces if face.apparent_gender]
    age = gender = None
    if ages:
        decade = int(statistics.median(ages)) // 10 * 10
        age = prompts.Attribute(f"{decade}-{decade + 9}-year-old", 1.0)
    if genders:
        most = max(sorted(set(genders)), key=genders.count)
        gender = prompts.Attribute(most, genders.count(most) / len(genders))
    return prompts.agr_sentence(age=age, gender=gender)


def _failed(sentence: str) -> LabelAnswer:
    return LabelAnswer((), status=Status.ERROR, message=sentence)


def _turn(question: str, answer: str | None) -> Turn:
    if not question:
        return prompts.reasoning_turn(answer)
    return replace(Turn(question, answer), image="none")


def _max_prompt_tokens(config: EmoLlamaConfig) -> int:
    readers = [config.qformer, config.face.aggregator if config.face else None]
    return min(reader.max_prompt_tokens for reader in readers if reader is not None)
