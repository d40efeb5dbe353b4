import pytest
import torch

from emo_llama_ros.inference import label_trie
from emo_llama_ros.inference.scoring import TreePass

EOS = 2
LABELS = [[11], [12], [13, 14], [15], [16, 17], [18, 19, 20], [11, 21], [11, 21, 22]]
PREFIX = 7


def brute_force(llm, embeds, labels, terminator):
    """One full forward of the model per label: prompt + label (+ end), log-probabilities summed."""
    scores = []
    for label in labels:
        target = torch.tensor([*label, *([terminator] if terminator is not None else [])])
        inputs = torch.cat([embeds, llm.get_input_embeddings()(target[None])], 1)
        logits = llm(inputs_embeds=inputs, use_cache=False).logits[0]
        log_p = logits[embeds.shape[1] - 1 : -1].float().log_softmax(-1)
        scores.append(log_p.gather(1, target[:, None]).sum())
    return torch.stack(scores)


def prompts(runner, *lengths):
    torch.manual_seed(1)
    head = torch.randn(1, PREFIX, 128) * 0.5
    return head, [torch.randn(1, n, 128) * 0.5 for n in lengths]


def score(runner, head, tails, trie):
    cache = runner.new_cache(len(tails), 96)
    one = runner.new_cache(1, PREFIX)
    runner.extend(head, one, 0)
    cache.fill_rows(one.keys, one.values)
    lengths = [tail.shape[1] for tail in tails]
    padded = torch.zeros(len(tails), max(lengths), head.shape[-1])
    for row, tail in enumerate(tails):
        padded[row, : tail.shape[1]] = tail
    plan = TreePass(trie, PREFIX, padded.shape[1], tuple(lengths), runner.dtype, runner.device)
    return plan.run(runner, cache, padded)


@pytest.fixture(autouse=True)
def inference_mode():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("terminator", [EOS, None])
def test_one_tree_pass_equals_a_forward_per_label(tiny_llama, runner, terminator):
    labels = LABELS if terminator is not None else LABELS[:6]
    head, (tail,) = prompts(runner, 12)
    got = score(runner, head, [tail], label_trie.build(labels, terminator))[0]
    want = brute_force(tiny_llama, torch.cat([head, tail], 1), labels, terminator)
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-6)


def test_people_of_unequal_clips_in_one_batch_score_as_alone(tiny_llama, runner):
    head, tails = prompts(runner, 12, 5, 9)
    trie = label_trie.build(LABELS, EOS)
    batch = score(runner, head, tails, trie)
    for row, tail in enumerate(tails):
        torch.testing.assert_close(batch[row], score(runner, head, [tail], trie)[0], atol=1e-5, rtol=1e-6)
        want = brute_force(tiny_llama, torch.cat([head, tail], 1), LABELS, EOS)
        torch.testing.assert_close(batch[row], want, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("harm", ["mask", "positions", "padding"])
def test_the_comparison_notices_a_wrong_mask_or_position(tiny_llama, runner, monkeypatch, harm):
    build = TreePass.__init__

    def harmed(self, trie, prefix, padded, lengths, dtype, device):
        build(self, trie, prefix, padded, lengths, dtype, device)
        if harm == "mask":
            self.mask[:, :, padded:] = 0
        elif harm == "positions":
            self.positions[:, padded:] = torch.arange(len(trie)) + prefix + padded
        else:
            self.mask[:, :, padded:, prefix : prefix + padded] = 0

    monkeypatch.setattr(TreePass, "__init__", harmed)
    head, tails = prompts(runner, 12, 5)
    got = score(runner, head, tails, label_trie.build(LABELS, EOS))
    want = brute_force(tiny_llama, torch.cat([head, tails[1]], 1), LABELS, EOS)
    assert (got[1] - want).abs().max() > 1e-2
