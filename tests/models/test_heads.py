import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.testing import assert_close

from flamlib.models import heads

FEATURES = torch.randn(4, 24, generator=torch.Generator().manual_seed(0))


def test_a_head_says_of_each_caption_its_own_number_near_where_it_begins():
    torch.manual_seed(0)
    head = heads.build_head("bias", "per_caption", width=24, init=-8.0)
    found = head(FEATURES)
    assert found.shape == (4,)
    assert len(set(found.tolist())) == 4
    assert found.tolist() == pytest.approx([-8.0] * 4, abs=1.5)
    assert_close(head(FEATURES[2:3]), found[2:3])  # one caption is a list of captions


@pytest.mark.parametrize("kind", ["shared", "fixed"])
def test_a_shared_number_is_that_of_all_captions_and_begins_exactly_there(kind):
    head = heads.build_head("scale", kind, width=24, init=3.0)
    assert_close(head(FEATURES), torch.full((4,), 3.0))
    assert {p.requires_grad for p in head.parameters()} == {kind == "shared"}
    assert head(FEATURES[:0]).shape == (0,)


@pytest.mark.parametrize("kind", ["per_caption", "shared"])
def test_fitted_to_shares_heads_become_log_odds(kind):
    """Each caption's own, or, where there is one number, that of their mean share."""
    torch.manual_seed(0)
    head = heads.build_head("bias", kind, width=24, init=-8.0)
    share = torch.tensor([0.5, 0.1, 0.03, 0.01])
    optimiser = torch.optim.AdamW(head.parameters(), lr=2e-3, weight_decay=0.0)
    for _ in range(1500):
        optimiser.zero_grad()
        binary_cross_entropy_with_logits(head(FEATURES), share).backward()
        optimiser.step()
    due = share if kind == "per_caption" else share.mean().expand(4)
    assert_close(head(FEATURES), due.logit(), atol=0.05, rtol=0)


def test_a_shared_number_learns_as_fast_as_a_head():
    """From -8 to 1, as the bias of a frequent caption may have to, in a hundred steps."""
    torch.manual_seed(0)
    head = heads.build_head("bias", "shared", width=384, init=-8.0)
    optimiser = torch.optim.AdamW(head.parameters(), lr=1.5e-3)
    for _ in range(100):
        optimiser.zero_grad()
        share = torch.full((4,), 0.73)
        binary_cross_entropy_with_logits(head(FEATURES), share).backward()
        optimiser.step()
    assert head(FEATURES)[0].item() == pytest.approx(1.0, abs=0.2)


def test_another_kind_is_refused():
    with pytest.raises(ValueError, match="bias must be per_caption, shared or fixed, not 'none'"):
        heads.build_head("bias", "none", width=24, init=0.0)
