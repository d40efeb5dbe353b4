import dataclasses

import pytest
import torch
from torch.testing import assert_close

from emo_llama_ros.model.configuration import emo_llama_tiny
from emo_llama_ros.model.modeling import ClipInputs, EmoLlama

PROMPT = torch.tensor([[2, 20, 30, 40, 3]])
OTHER_PROMPT = torch.tensor([[2, 50, 60, 3]])
ONES = torch.ones_like


def frames(count, size=56, seed=0):
    return torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def model(build_model):
    return build_model()


@pytest.fixture(scope="module")
def features(model):
    return model.encode_frames(frames(4))


@pytest.fixture(autouse=True)
def _no_grad():
    with torch.no_grad():
        yield


def test_a_frame_with_a_face_has_context_content_and_face_tokens(model, features, make_priors):
    tokens = model.frame_tokens(features, PROMPT, ONES(PROMPT), make_priors([1, 1, 1, 1]))
    per_frame = model.config.visual_tokens_per_frame + model.config.face_tokens_per_frame
    assert [len(t) for t in tokens] == [per_frame] * 4 == [4] * 4


def test_visual_tokens_stand_before_face_tokens_in_each_frame(model, features, make_priors):
    priors = make_priors([1, 1, 1, 1])
    ids = PROMPT.expand(4, -1)
    generated = model.token_generation(features, ids, ONES(ids))
    face = model.face_branch.frame_tokens(priors, ids, ONES(ids))
    for i, tokens in enumerate(model.frame_tokens(features, PROMPT, ONES(PROMPT), priors)):
        assert torch.equal(tokens, torch.cat((generated.context[i], generated.content[i], face[i])))


def test_a_frame_without_a_face_has_no_face_tokens(model, features, make_priors):
    tokens = model.frame_tokens(features, PROMPT, ONES(PROMPT), make_priors([1, 0, 1, 0]))
    assert [len(t) for t in tokens] == [4, 2, 4, 2]


def test_what_stands_in_the_row_of_a_missing_face_has_no_influence(model, features, make_priors):
    priors = make_priors([1, 0, 1, 0])
    spoiled = dataclasses.replace(priors, landmarks=priors.landmarks.clone())
    spoiled.landmarks[1] = float("nan")
    expected = model.frame_tokens(features, PROMPT, ONES(PROMPT), priors)
    got = model.frame_tokens(features, PROMPT, ONES(PROMPT), spoiled)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_a_clip_without_any_face_is_read_by_the_core_alone(model, features, make_priors):
    nobody = model.frame_tokens(features, PROMPT, ONES(PROMPT), make_priors([0, 0, 0, 0]))
    core = model.frame_tokens(features, PROMPT, ONES(PROMPT))
    assert all(torch.equal(a, b) for a, b in zip(nobody, core, strict=True))


def test_with_the_face_branch_off_the_model_is_the_core_bit_by_bit(model, features):
    core = EmoLlama(dataclasses.replace(model.config, face=None))
    core.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("face_branch.")})
    ids = torch.tensor([[1, 5, -200, 7, 8]])
    clips = [ClipInputs(PROMPT, ONES(PROMPT), features)]
    assert torch.equal(model(ids, clips).logits, core(ids, clips).logits)


def test_frames_do_not_influence_each_other(model, features, make_priors):
    priors, order = make_priors([1, 0, 1, 1]), torch.tensor([2, 0, 3, 1])
    tokens = model.frame_tokens(features, PROMPT, ONES(PROMPT), priors)
    shuffled = model.frame_tokens(features[order], PROMPT, ONES(PROMPT), priors[order])
    for place, i in enumerate(order.tolist()):
        assert_close(shuffled[place], tokens[i], atol=1e-6, rtol=1e-5)


def test_an_image_is_a_clip_of_one_frame(model, make_priors):
    clip, priors = model.encode_frames(frames(3)), make_priors([1, 1, 1])
    image = model.encode_frames(frames(3)[1:2])
    alone = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), image, priors[1:2])])[0][0]
    within = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), clip, priors)])[0][0]
    assert_close(alone, within[4:8], atol=1e-5, rtol=1e-4)


def test_the_order_of_frames_matters_to_the_language_model(model, features):
    ids = torch.tensor([[1, -200, 7]])
    forward = model(ids, [ClipInputs(PROMPT, ONES(PROMPT), features)]).logits
    backward = model(ids, [ClipInputs(PROMPT, ONES(PROMPT), features.flip(0))]).logits
    assert (forward[:, -1] - backward[:, -1]).abs().max() > 1e-3


def test_the_prompt_changes_context_and_face_tokens_but_not_the_content(model, features, make_priors):
    priors = make_priors([1, 1, 1, 1])
    one = torch.stack(model.frame_tokens(features, PROMPT, ONES(PROMPT), priors))
    other = torch.stack(model.frame_tokens(features, OTHER_PROMPT, ONES(OTHER_PROMPT), priors))
    changed = (one - other).abs().amax(dim=(0, 2))
    assert changed[1] == 0
    assert (changed[[0, 2, 3]] > 1e-3).all()


def test_samples_of_a_batch_are_read_as_if_alone(model, make_priors):
    clips = [
        ClipInputs(PROMPT, ONES(PROMPT), model.encode_frames(frames(2)), make_priors([1, 0])),
        ClipInputs(OTHER_PROMPT, ONES(OTHER_PROMPT), model.encode_frames(frames(3, seed=1)), make_priors([1, 1, 1])),
    ]
    ids = [torch.tensor([1, 5, -200, 9]), torch.tensor([1, -200, 9, 8, 7, 6])]
    labels = [torch.tensor([-100, -100, -100, 9]), torch.tensor([-100, -100, 9, -100, 7, 6])]
    together = model(ids, clips, labels=labels)
    losses, weights = [], []
    for b in range(2):
        alone = model(ids[b : b + 1], clips[b : b + 1], labels=labels[b : b + 1])
        assert_close(together.logits[b, : alone.logits.shape[1]], alone.logits[0], atol=1e-4, rtol=1e-4)
        losses.append(alone.loss)
        weights.append((labels[b] != -100).sum())
    mean = sum(loss * w for loss, w in zip(losses, weights, strict=True)) / sum(weights)
    assert_close(together.loss, mean, atol=1e-5, rtol=1e-5)


def test_each_image_of_a_conversation_is_read_under_its_own_prompt(model, features):
    ids = torch.nn.utils.rnn.pad_sequence([PROMPT[0], OTHER_PROMPT[0]], batch_first=True)
    first, second = model.visual_blocks([ClipInputs(ids, (ids != 0).long(), features)])[0]
    alone = model.visual_blocks([ClipInputs(OTHER_PROMPT, ONES(OTHER_PROMPT), features)])[0][0]
    assert_close(second, alone, atol=1e-5, rtol=1e-4)
    assert (first - second).abs().max() > 1e-3


def test_a_sample_without_an_image_is_text(model, features):
    nothing = ClipInputs(PROMPT[:0], PROMPT[:0], features)
    text = model([torch.tensor([1, 5, 6])], [nothing]).logits
    assert_close(text, model.language_model(torch.tensor([[1, 5, 6]])).logits)


def test_the_same_input_gives_the_same_bits(model, features, make_priors):
    clips = [ClipInputs(PROMPT, ONES(PROMPT), features, make_priors([1, 0, 1, 1]))]
    ids = torch.tensor([[1, -200, 7]])
    assert torch.equal(model(ids, clips).logits, model(ids, clips).logits)


@pytest.mark.parametrize(("compress_type", "content"), [("mean", 1), ("grid:2", 4), ("grid:3", 16), (None, 16)])
def test_content_tokens_of_each_compress_type(build_model, compress_type, content):
    model = build_model(face=False, compress_type=compress_type)
    tokens = model.frame_tokens(model.encode_frames(frames(1)), PROMPT, ONES(PROMPT))[0]
    assert len(tokens) == 1 + content == model.config.visual_tokens_per_frame


def test_grid_pooling_averages_cells_row_by_row(build_model):
    model = build_model(face=False, compress_type="grid:2")
    features = model.encode_frames(frames(1))
    square = features[0, 1:].reshape(2, 2, 2, 2, -1)  # cell row, row, cell column, column, V
    cells = square.mean(dim=(1, 3)).flatten(0, 1)
    expected = model.token_generation.content_projector(cells)
    got = model.token_generation(features, PROMPT, ONES(PROMPT)).content[0]
    assert_close(got, expected)


def test_without_vision_the_face_tokens_are_all_there_is(build_model, make_priors):
    model = build_model(vision=False)
    priors = make_priors([1, 0, 1], is_map=False)
    block = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), face_priors=priors)])[0][0]
    assert block.shape == (4, 64)
    nobody = ClipInputs(PROMPT, ONES(PROMPT), face_priors=make_priors([0, 0], is_map=False))
    assert model.visual_blocks([nobody])[0][0].shape == (0, 64)
    with pytest.raises(ValueError, match="no vision tower"):
        model.encode_frames(frames(1))


def test_face_tokens_of_scope_clip_follow_the_whole_clip(build_model, make_priors):
    model = build_model(face_changes={"scope": "clip"})
    features, priors = model.encode_frames(frames(3)), make_priors([1, 0, 1])
    block = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), features, priors)])[0][0]
    core = torch.cat(model.frame_tokens(features, PROMPT, ONES(PROMPT), priors))
    assert block.shape[0] == 3 * 2 + 2
    assert torch.equal(block[:6], core)
    nobody = ClipInputs(PROMPT, ONES(PROMPT), features, make_priors([0, 0, 0]))
    assert torch.equal(model.visual_blocks([nobody])[0][0], core)
    backward = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), features, priors[torch.tensor([2, 1, 0])])])[0][0]
    assert (backward[6:] - block[6:]).abs().max() > 1e-4


def test_frames_of_another_type_or_size_are_refused_not_cast(model):
    with pytest.raises(ValueError, match="float64"):
        model.encode_frames(frames(1).double())
    with pytest.raises(ValueError, match=r"\(N, 3, 56, 56\)"):
        model.encode_frames(frames(1, size=70))


def test_every_step_keeps_the_dtype_of_the_weights(build_model, make_priors):
    model = build_model().to(torch.bfloat16)
    features = model.encode_frames(frames(2).bfloat16())
    priors = make_priors([1, 1]).to("cpu", torch.bfloat16)
    blocks = model.visual_blocks([ClipInputs(PROMPT, ONES(PROMPT), features, priors)])
    merged = model.merge(torch.tensor([[1, -200]]), blocks)
    assert {features.dtype, blocks[0][0].dtype, merged.inputs_embeds.dtype} == {torch.bfloat16}


def test_rope_frequencies_stay_exact_in_low_precision(build_model):
    exact = build_model().language_model.model.rotary_emb.inv_freq
    assert torch.equal(build_model().to(torch.bfloat16).language_model.model.rotary_emb.inv_freq, exact)


def test_a_model_built_on_the_meta_device_computes_the_same(model, features):
    with torch.device("meta"):
        empty = EmoLlama(model.config)
    empty.load_state_dict(model.state_dict(), assign=True)
    empty.restore_buffers()
    clips, ids = [ClipInputs(PROMPT, ONES(PROMPT), features)], torch.tensor([[1, -200, 7]])
    assert torch.equal(empty(ids, clips).logits, model(ids, clips).logits)


def test_the_vision_tower_is_frozen_and_the_face_branch_learns(build_model, make_priors):
    model = build_model()
    with torch.enable_grad():
        features = model.encode_frames(frames(2))
        clips = [ClipInputs(PROMPT, ONES(PROMPT), features, make_priors([1, 1]))]
        model(torch.tensor([[1, -200, 7]]), clips, labels=torch.tensor([[-100, -100, 7]])).loss.backward()
    assert not any(p.requires_grad for p in model.vision_tower.parameters())
    unused = [n for n, p in model.face_branch.named_parameters() if p.grad is None or not p.grad.any()]
    # Softmax ignores a bias that all keys share; text after the last cross-attention reaches no query.
    assert all("key.bias" in n or "layer.1.intermediate." in n or "layer.1.output." in n for n in unused), unused


def test_the_aggregator_can_start_from_the_main_q_former(build_model):
    config = emo_llama_tiny()
    aggregator = dataclasses.replace(config.face.aggregator, hidden_size=48, num_hidden_layers=2)
    model = build_model(face_changes={"aggregator": aggregator, "hidden_size": 72})
    model.init_face_aggregator()
    main, face = (q.bert.state_dict() for q in (model.token_generation.qformer, model.face_branch.aggregator))
    assert all(torch.equal(main[name], value) for name, value in face.items())


def test_a_clip_needs_as_many_face_priors_as_frames(model, features, make_priors):
    with pytest.raises(ValueError, match="as many face priors as frames"):
        model.frame_tokens(features, PROMPT, ONES(PROMPT), make_priors([1, 1]))
