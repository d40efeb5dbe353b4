from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the 'model' extra")

from emo_llama_ros import calibration, prompts
from emo_llama_ros.backends.language_model import EmoLlamaBackend, apparent_attributes
from emo_llama_ros.backends.registry import make_backend
from emo_llama_ros.errors import BadCheckpoint, EmoError, OutOfMemory
from emo_llama_ros.estimate import Status
from emo_llama_ros.evidence import answer_note, evidence_note
from emo_llama_ros.evidence.clip_measures import clip_facts
from emo_llama_ros.faces.measures import NAMES
from emo_llama_ros.labels import AFFECTNET, RAF_DB
from emo_llama_ros.model.merging import IMAGE_TOKEN
from emo_llama_ros.model.modeling import ClipInputs
from emo_llama_ros.model.processing import tokenize_prompt
from emo_llama_ros.options import Options
from emo_llama_ros.prompts import Turn

KINDS = [("none", True, "frame"), ("none", False, "clip"), ("none", True, "clip")]


def make(folder, **options):
    backend = make_backend(
        Options().with_values(
            {"backend": "emo_llama", "model_path": str(folder), "device": "cpu", "worker_threads": 1}
            | {"max_reasoning_tokens": 16}
            | options
        )
    )
    backend.load()
    return backend


@pytest.fixture(params=KINDS, ids=lambda kind: " ".join(map(str, kind)))
def backend(request, checkpoint):
    return make(checkpoint(*request.param))


@torch.no_grad()
def plain(backend, clip, turns, words=None):
    """Logits of the whole conversation by the model's own forward."""
    model, frames = backend._reader.model, backend._inputs.of(clip)
    numbers = range(len(frames.stamps_ns))
    asked = backend._dialogue.prompt(turns, words or "")
    inputs = ClipInputs(
        asked.visual.prompt_ids,
        asked.visual.prompt_mask,
        model.encode_frames(frames.pixel_values(numbers)) if frames.pixel_values else None,
        frames.face_priors(numbers),
    )
    ids = tokenize_prompt(prompts.render(turns), backend._dialogue.tokenizer)
    return ids, model(torch.tensor([ids]), [inputs]).logits[0]


def continue_plainly(backend, clip, turns, words, count):
    """Greedy text by one whole forward per token."""
    tokenizer = backend._dialogue.tokenizer
    asked, got = backend._dialogue.prompt(turns, words), []
    model, frames = backend._reader.model, backend._inputs.of(clip)
    numbers = range(len(frames.stamps_ns))
    inputs = ClipInputs(
        asked.visual.prompt_ids,
        asked.visual.prompt_mask,
        model.encode_frames(frames.pixel_values(numbers)) if frames.pixel_values else None,
        frames.face_priors(numbers),
    )
    with torch.no_grad():
        for _ in range(count):
            ids = torch.tensor([[*asked.head_ids, IMAGE_TOKEN, *asked.tail_ids, *got]])
            token = int(model(ids, [inputs]).logits[0, -1].argmax())
            if token == tokenizer.eos_id:
                break
            got.append(token)
    return tokenizer.decode(got)


def test_the_probabilities_are_those_of_the_labels_spoken_in_full(backend, make_clip):
    clip = make_clip()
    (answer,) = backend.label([clip])
    scores = []
    for label in RAF_DB.labels:
        question = tokenize_prompt(
            prompts.render([prompts.label_turn(RAF_DB, video=True)]), backend._dialogue.tokenizer
        )
        ids, logits = plain(backend, clip, [prompts.label_turn(RAF_DB, video=True, answer=label)])
        spoken = ids[len(question) :]
        log_p = logits[-len(spoken) - 1 : -1].float().log_softmax(-1)
        scores.append(float(log_p.gather(1, torch.tensor(spoken)[:, None]).sum()))
    want = torch.tensor(scores).softmax(0)
    assert answer.probabilities == pytest.approx(want.tolist(), abs=1e-4)
    assert sum(answer.probabilities) == pytest.approx(1)


@pytest.mark.parametrize("clip_frames", [8, 20])
def test_of_a_longer_clip_than_the_model_reads_the_frames_that_were_read_are_counted(
    checkpoint, make_clip, caplog, clip_frames
):
    folder = checkpoint("none", False, "clip")
    backend = make(folder, clip_frames=clip_frames)
    most = backend._reader.model.config.face.max_frames
    (answer,) = backend.label([make_clip(frames=most + 4)])
    assert answer.frames == most
    assert ("set clip_frames to" in caplog.text) == (clip_frames > most)


def test_reasons_go_on_from_the_label_as_the_plain_model_would(backend, make_clip):
    clip = make_clip()
    (answer,) = backend.label([clip])
    label = RAF_DB.labels[int(np.argmax(answer.probabilities))]
    turns = [prompts.label_turn(RAF_DB, video=True, answer=label), prompts.reasoning_turn()]
    pieces = list(backend.explain(clip, answer))
    assert "".join(pieces) == continue_plainly(backend, clip, turns, turns[0].question, 16)
    assert len(pieces) > 1


def test_a_question_is_read_under_its_own_words_and_remembers_what_was_said(backend, make_clip):
    clip = make_clip()
    (answer,) = backend.label([clip])
    label = RAF_DB.labels[int(np.argmax(answer.probabilities))]
    first = prompts.label_turn(RAF_DB, video=True, answer=label)
    reasons = prompts.one_line("".join(backend.explain(clip, answer)))
    question = "Is the person smiling?"
    said = "".join(backend.explain(clip, answer, question))
    turns = [first, prompts.reasoning_turn(reasons), Turn(question, None, image="none")]
    assert said == continue_plainly(backend, clip, turns, question, 16)
    again = "".join(backend.explain(clip, answer, "Why?"))
    turns = [*turns[:2], Turn(question, prompts.one_line(said), image="none"), Turn("Why?", None, image="none")]
    assert again == continue_plainly(backend, clip, turns, "Why?", 16)


def test_a_model_trained_with_notes_is_told_what_was_measured_and_then_what_was_published(checkpoint, make_clip):
    folder = checkpoint("none", False, "clip", evidence_note=True)
    backend, clip, question = make(folder), make_clip(), "Is the mouth open?"
    (answer,) = backend.label([clip])
    facts = clip_facts(clip, RAF_DB.labels, answer.probabilities)
    label = prompts.label_turn(RAF_DB, video=True, answer=facts.label, context=evidence_note(facts))
    reasons = "".join(backend.explain(clip, answer))
    asked = prompts.reasoning_turn(context=answer_note(facts.labels, facts.probabilities))
    assert reasons == continue_plainly(backend, clip, [label, asked], label.question, 16)
    said = "".join(backend.explain(clip, answer, question))
    turns = [label, replace(asked, answer=prompts.one_line(reasons)), Turn(question, None, image="none")]
    assert said == continue_plainly(backend, clip, turns, question, 16)


def test_people_in_a_batch_are_answered_as_alone(backend, make_clip):
    clips = [make_clip(8, 0, "a"), make_clip(3, 20, "b"), make_clip(8, 40, "c"), make_clip(1, 60, "d")]
    together = backend.label(clips)
    for clip, answer in zip(clips, together, strict=True):
        backend.forget(clip.face_id)
        assert answer.probabilities == pytest.approx(backend.label([clip])[0].probabilities, abs=1e-4)


def test_a_new_baseline_is_not_answered_from_the_cache(backend, make_clip):
    old, new = make_clip(), make_clip(baseline=dict.fromkeys(NAMES, 9.0))
    first = backend.label([old])[0].probabilities
    second = backend.label([new])[0].probabilities
    backend.forget("abc")
    # The tiny model's opinion hardly moves, but by far more than rounding does.
    assert second == pytest.approx(backend.label([new])[0].probabilities, abs=1e-6)
    assert second != pytest.approx(first, abs=1e-5)


def test_a_cancelled_reasoning_stops_within_one_token(backend, make_clip):
    clip = make_clip()
    (answer,) = backend.label([clip])
    pieces = []
    for piece in backend.explain(clip, answer, cancelled=lambda: len(pieces) >= 2):
        pieces.append(piece)
    assert len(pieces) == 2
    assert len(answer.state.turns) == 1, "half an answer is not part of the conversation"


def test_a_face_without_measurements_is_an_error_only_for_a_model_that_sees_nothing_else(checkpoint, make_clip):
    clip = make_clip(landmarks=None)
    (answer,) = make(checkpoint("none", False, "clip")).label([clip])
    assert answer.status is Status.ERROR
    assert "facial measurements" in answer.message
    assert make(checkpoint("none", True, "frame")).label([clip])[0].status is Status.OK


def test_an_analyzer_with_other_embeddings_is_named(checkpoint, make_clip):
    good, bad = make_clip(face_id="a"), make_clip(face_id="b", embedding=np.zeros(512, np.float32))
    answers = make(checkpoint()).label([bad, good])
    assert answers[0].status is Status.ERROR
    assert "128 numbers" in answers[0].message
    assert "512" in answers[0].message
    assert answers[1].status is Status.OK


def test_valence_and_arousal_stay_unknown(backend, make_clip):
    (answer,) = backend.label([make_clip()])
    assert math.isnan(answer.valence)
    assert math.isnan(answer.arousal)


@pytest.mark.parametrize("quantization", ["none", "int8", "nf4"])
def test_the_model_says_what_it_is(checkpoint, quantization):
    folder = checkpoint(quantization)
    info = make(folder).info
    held = "float32" if quantization == "none" else quantization
    assert info.model == f"{folder.name}/{held}"
    assert info.quantization == quantization
    assert len(info.checksum) == 64
    assert info.prompt_hash == prompts.prompt_hash()
    assert (info.backend, info.device, info.calibration) == ("emo_llama", "cpu", "identity")


@pytest.mark.parametrize("quantization", ["int8", "nf4"])
def test_quantized_checkpoints_answer_like_the_quantized_model(checkpoint, make_clip, quantization):
    backend = make(checkpoint(quantization))
    (answer,) = backend.label([make_clip()])
    assert sum(answer.probabilities) == pytest.approx(1)
    again = make(checkpoint("none"), quantization=quantization)
    # Stored and made on the fly are the same weights, but an unquantized part may be held in another dtype.
    assert answer.probabilities == pytest.approx(again.label([make_clip()])[0].probabilities, abs=0.02)
    assert list(backend.explain(make_clip(), answer))


def test_calibration_comes_from_the_checkpoint_or_the_option(checkpoint, make_clip, tmp_path):
    file = tmp_path / "hot.json"
    calibration.save_temperature(file, RAF_DB, 50.0)
    plain, hot = make(checkpoint()), make(checkpoint(), calibration_file=str(file))
    clip = make_clip()
    flat = hot.label([clip])[0].probabilities
    assert max(flat) < max(plain.label([clip])[0].probabilities)
    assert hot.info.calibration == "temperature 50 from hot.json"
    assert any("not calibrated" in note for note in plain.notes)


def test_a_calibration_for_other_labels_is_refused_when_asked_for(checkpoint, tmp_path):
    file = tmp_path / "other.json"
    calibration.save_temperature(file, AFFECTNET, 1.5)
    with pytest.raises(BadCheckpoint, match="affectnet"):
        make(checkpoint(), calibration_file=str(file))


def test_another_label_set_can_be_asked_for(checkpoint, make_clip):
    backend = make(checkpoint(), label_set="affectnet")
    (answer,) = backend.label([make_clip()])
    assert len(answer.probabilities) == len(AFFECTNET.labels)


def test_a_face_branch_for_other_priors_is_refused(tiny_checkpoints):
    with pytest.raises(BadCheckpoint, match="feature map"):
        make(tiny_checkpoints.ours())


def test_a_closed_backend_can_be_loaded_again(checkpoint, make_clip):
    backend = make(checkpoint())
    before = backend.label([make_clip()])[0].probabilities
    backend.close()
    with pytest.raises(RuntimeError, match="not loaded"):
        _ = backend.info
    backend.load()
    assert backend.label([make_clip()])[0].probabilities == before


def test_the_number_format_of_a_large_model_is_measured_on_the_cpu(checkpoint, make_clip, monkeypatch):
    from emo_llama_ros.backends import language_model

    monkeypatch.setattr(language_model, "SMALL_MODEL_PARAMETERS", 0)
    backend = make(checkpoint())
    note = backend.notes[0]
    assert note.startswith("Number format: ")
    held = note.removeprefix("Number format: ").split(",")[0]
    assert backend.info.model.endswith(f"/{held}")
    assert backend.label([make_clip()])[0].status is Status.OK
    for asked in ({"performance": "plain"}, {"dtype": "float32"}, {"quantization": "none"}):
        assert not any("measured" in note for note in make(checkpoint(), **asked).notes)


# --- memory ---


class Scarce:
    """Makes the language model run out of memory whenever it is given more than `rows` rows or `tokens` tokens."""

    def __init__(self, backend: EmoLlamaBackend, rows: int, tokens: int) -> None:
        self.runner = backend._reader.runner
        self.real = self.runner.hidden_states
        self.rows, self.tokens, self.refused = rows, tokens, 0
        self.runner.hidden_states = self

    def __call__(self, embeds, *rest, **more):
        if embeds.shape[0] > self.rows or embeds.shape[1] > self.tokens:
            self.refused += 1
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        return self.real(embeds, *rest, **more)


def test_a_batch_that_does_not_fit_is_read_one_by_one_with_fewer_frames(checkpoint, make_clip):
    backend = make(checkpoint())
    clips = [make_clip(8, 0, "a"), make_clip(8, 20, "b")]
    half = [backend.label([make_clip(4, first, name)])[0] for first, name in ((4, "a"), (24, "b"))]
    scarce = Scarce(backend, rows=1, tokens=10_000)
    answers = backend.label(clips)
    assert scarce.refused == 1
    for answer, want in zip(answers, half, strict=True):
        assert answer.status is Status.OK
        assert answer.probabilities == pytest.approx(want.probabilities, abs=1e-4)
        assert answer.state.frames == answer.frames == 4


def test_a_clip_that_never_fits_is_an_error_and_the_backend_lives(checkpoint, make_clip):
    backend = make(checkpoint())
    scarce = Scarce(backend, rows=1, tokens=5)
    answers = backend.label([make_clip()])
    assert answers[0].status is Status.ERROR
    assert "Memory ran out" in answers[0].message
    assert scarce.refused == 2
    assert len(backend._reader.frames.tokens) == 0
    backend._reader.runner.hidden_states = scarce.real
    assert backend.label([make_clip()])[0].status is Status.OK


def test_reasons_are_tried_once_more_with_empty_caches(checkpoint, make_clip):
    backend = make(checkpoint())
    clip = make_clip()
    (answer,) = backend.label([clip])
    want = "".join(backend.explain(clip, backend.label([clip])[0]))
    real, failures = backend._reader.generate, []

    def once(*args, **more):
        if not failures:
            failures.append(1)
            raise MemoryError
        return real(*args, **more)

    backend._reader.generate = once
    assert "".join(backend.explain(clip, answer)) == want

    def always(*args, **more):
        raise MemoryError

    backend._reader.generate = always
    with pytest.raises(OutOfMemory, match="Memory ran out"):
        list(backend.explain(clip, backend.label([clip])[0]))


def test_other_failures_are_not_taken_for_memory(checkpoint, make_clip, monkeypatch):
    backend = make(checkpoint())

    def broken(*args, **more):
        raise RuntimeError("a real bug")

    monkeypatch.setattr(backend._reader, "score", broken)
    with pytest.raises(RuntimeError, match="a real bug"):
        backend.label([make_clip()])


def test_weights_that_are_no_numbers_give_an_error_not_a_label(checkpoint, make_clip):
    backend = make(checkpoint())
    backend._reader.model.language_model.lm_head.weight.data.fill_(float("nan"))
    (answer,) = backend.label([make_clip()])
    assert answer.status is Status.ERROR
    assert "finite" in answer.message


def test_only_a_labelled_clip_can_be_explained(checkpoint, make_clip):
    from emo_llama_ros.backends.backend import LabelAnswer

    with pytest.raises(EmoError, match="label is known"):
        list(make(checkpoint()).explain(make_clip(), LabelAnswer(())))


def test_a_question_longer_than_the_model_is_refused(checkpoint, make_clip):
    backend = make(checkpoint())
    clip = make_clip()
    (answer,) = backend.label([clip])
    with pytest.raises(EmoError, match="too long"):
        list(backend.explain(clip, answer, "Is it so? " * 400))


def test_a_model_with_its_own_calibration_uses_it(checkpoint, make_clip, tmp_path):
    import shutil

    folder = tmp_path / "calibrated"
    shutil.copytree(checkpoint(), folder)
    calibration.save_temperature(folder / "calibration.json", RAF_DB, 3.0)
    (folder / "checksums.json").unlink()
    assert make(folder).info.calibration == "temperature 3 from calibration.json"
    told = json.loads((folder / "calibration.json").read_text())
    assert told["temperature"] == 3.0
    other = make(folder, label_set="affectnet")
    assert other.info.calibration == "identity"
    assert any("raf-db" in note for note in other.notes)


class TestApparentAttributes:
    def test_age_is_a_decade_and_gender_that_of_most_frames(self, make_clip, make_face):
        ages = [(34.0, "woman"), (38.0, "woman"), (41.0, "man")]
        faces = tuple(make_face(i, apparent_age=age, apparent_gender=gender) for i, (age, gender) in enumerate(ages))
        clip = replace(make_clip(frames=3), faces=faces)
        assert apparent_attributes(clip) == "The person appears to be a 30-39-year-old woman."

    def test_what_nobody_guessed_is_left_out(self, make_clip, make_face):
        assert apparent_attributes(make_clip()) == ""
        aged = replace(make_clip(frames=1), faces=(make_face(apparent_age=8.0),))
        assert apparent_attributes(aged) == "The person appears to be a 0-9-year-old person."

    def test_they_reach_the_model_only_when_asked_for(self, checkpoint, make_clip):
        clip = make_clip(apparent_age=34.0, apparent_gender="woman")
        off, on = (make(checkpoint(), agr_prompt=wanted).label([clip])[0].probabilities for wanted in (False, True))
        without = make(checkpoint(), agr_prompt=True).label([make_clip()])[0].probabilities
        assert off == pytest.approx(without, abs=1e-6)
        assert on != pytest.approx(off, abs=1e-4)

    def test_reasons_follow_the_prompt_that_held_them(self, checkpoint, make_clip):
        backend = make(checkpoint(), agr_prompt=True)
        clip = make_clip(apparent_age=34.0, apparent_gender="woman")
        (answer,) = backend.label([clip])
        at_once = "".join(backend.explain(clip, answer))
        backend.label([make_clip(first=30, face_id="other")])  # takes the cache, so that the prompt is read again
        (again,) = backend.label([clip])
        assert "".join(backend.explain(clip, again)) == at_once
