from dataclasses import replace

import numpy as np
import pytest
from heldouts import read_split, write_artifacts
from scipy.special import expit
from sklearn.metrics import log_loss

from flamlib.evaluation import priors
from flamlib.evaluation.splits import SplitLogits


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    folder = write_artifacts(tmp_path_factory.mktemp("priors"))
    return {n: read_split(folder, n)[0] for n in ("valid", "seen_captions", "unseen_captions")}


def test_nats_are_the_log_loss_of_scikit_learn(splits):
    split = splits["seen_captions"]
    logits = np.random.default_rng(0).normal(-2, 3, split.active.shape).astype(np.float32)
    bias = np.zeros(len(split.captions), np.float32)
    found = priors.compute(SplitLogits(split, logits, bias), splits["valid"])
    known = np.broadcast_to(split.known[:, :, None], split.active.shape)
    expected = log_loss(split.active[known], expit(logits[known].astype(np.float64)))
    assert found["nats"] == pytest.approx(expected)
    assert found["nats_gain"] == pytest.approx(found["nats_constant"] - expected)


def test_priors_are_shares_of_the_reference(splits):
    split, reference = splits["seen_captions"], splits["valid"]
    known = np.broadcast_to(reference.known[:, :, None], reference.active.shape)
    share = reference.active[known].mean()
    of = {
        name: expit(prior.ravel()) for name, prior in priors.prior_logits(split, reference).items()
    }
    assert of["constant"] == pytest.approx(share)
    assert of["oracle"] == pytest.approx(split.active_share())
    for caption, prior in zip(split.captions, of["caption"], strict=True):
        j = reference.captions.index(caption)
        frames = reference.active[reference.known[:, j], j]
        clip = reference.active.shape[2]
        expected = (frames.sum() + clip * share) / (frames.size + clip)
        assert prior == pytest.approx(expected)


def test_of_a_caption_that_the_reference_does_not_have_the_constant_is_known(splits):
    of = priors.prior_logits(splits["unseen_captions"], splits["valid"])
    assert of["caption"] == pytest.approx(of["constant"])
    assert of["oracle"] != pytest.approx(of["constant"])


def test_the_gain_is_that_of_the_frames_that_are_known(splits):
    split = splits["seen_captions"]
    assert not split.known.all()
    logits = np.full(split.active.shape, -3.0, np.float32)
    model = SplitLogits(split, logits, np.zeros(len(split.captions), np.float32))
    poisoned = np.where(split.known[:, :, None], logits, 30).astype(np.float32)
    reference = splits["valid"]
    found = priors.compute(model, reference)
    assert priors.compute(replace(model, logits=poisoned), reference) == found
    sums = priors.gain_by_clip(model, reference)
    assert len(sums) == len(split.mixtures)
    assert priors.mean_nats(sums.sum(axis=0)) == pytest.approx(found["nats_gain"])
    assert np.isnan(priors.mean_nats(np.zeros(2)))
