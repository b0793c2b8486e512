import copy

import pytest
import torch
from transformers import BertConfig, BertModel

from flamlib.models.bert import Bert, fits

SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 12,
}


def pair(pooler, **more):
    """Ours and that of `transformers`, of one seed, and the state of the generator after each."""
    made, states = [], []
    for build in (
        lambda config: Bert(config, add_pooling_layer=pooler),
        lambda config: BertModel(config, add_pooling_layer=pooler),
    ):
        torch.manual_seed(0)
        made.append(build(BertConfig(**SIZES | more)))
        states.append(torch.get_rng_state())
    return made, states


@pytest.mark.parametrize("pooler", [False, True])
def test_it_starts_as_that_of_transformers_and_draws_as_many_numbers(pooler):
    (ours, theirs), states = pair(pooler)
    assert torch.equal(*states)
    found, expected = ours.state_dict(), theirs.state_dict()
    assert list(found) == list(expected)
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("lengths", [[5], [5, 5], [5, 2, 1]])
@pytest.mark.parametrize("training", [False, True])
def test_it_computes_what_that_of_transformers_does_to_the_last_digit(lengths, training):
    """With and without padding, and with the same dropout."""
    (ours, theirs), _ = pair(True)
    ids = torch.randint(1, 50, (len(lengths), max(lengths)))
    mask = torch.tensor([[int(k < n) for k in range(max(lengths))] for n in lengths])
    outputs = []
    for model in (ours, theirs):
        torch.manual_seed(1)
        outputs.append(model.train(training)(input_ids=ids * mask, attention_mask=mask))
    for name in ("last_hidden_state", "pooler_output"):
        assert torch.equal(getattr(outputs[0], name), getattr(outputs[1], name))


@pytest.mark.parametrize("lengths", [[5], [1], [5, 2, 1]])
def test_few_tokens_without_gradients_are_read_as_many_are(lengths):
    (ours, _), _ = pair(True)
    ours.eval()
    ids = torch.randint(1, 50, (len(lengths), max(lengths)))
    mask = torch.tensor([[int(k < n) for k in range(max(lengths))] for n in lengths])
    expected = ours(ids, mask)
    with torch.no_grad():
        found = ours(ids, mask)
    for name in ("last_hidden_state", "pooler_output"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@torch.no_grad()
def test_weights_that_learned_are_read():
    (ours, _), _ = pair(True)
    ours.eval()
    ids = torch.randint(1, 50, (1, 5))
    before = ours(ids).last_hidden_state
    ours.train()
    for weight in ours.parameters():
        weight.grad = torch.ones_like(weight)
    torch.optim.AdamW(ours.parameters(), lr=0.1, fused=True).step()
    found = ours.eval()(ids).last_hidden_state
    assert not torch.equal(found, before)
    with torch.enable_grad():
        torch.testing.assert_close(found, ours(ids).last_hidden_state.detach())


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_act": "relu"},
        {"is_decoder": True},
        {"chunk_size_feed_forward": 4},
        {"num_attention_heads": 3},
    ],
)
def test_what_is_no_plain_bert_is_left_to_transformers(changes):
    assert fits(BertConfig(**SIZES))
    config = copy.copy(BertConfig(**SIZES))
    for name, value in changes.items():
        setattr(config, name, value)
    assert not fits(config)
