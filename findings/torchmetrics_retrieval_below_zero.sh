#!/usr/bin/env bash
# torchmetrics takes what is relevant for irrelevant where its score is not above 0.
#
# The scores of retrieval by embeddings are cosines, many of them negative. Since version 1.7.4
# RetrievalMAP, RetrievalMRR, RetrievalRecall and RetrievalPrecision set the target of every item to
# 0 whose score is 0 or less, and say nothing. So results depend on more than the order of items:
# with 2 added to all scores, which changes no order, they are others. Average precision becomes too
# high where some relevant items of a query are below 0, and 0 where all of them are. The
# documentation calls scores "estimated probabilities", and says nothing of zero.
#
# Seen with torchmetrics 1.7.3 and 1.9.0, torch 2.13.0, on Python 3.11:
#     1.7.3: MAP 0.583, cosines + 2: 0.583; the first of all, at -0.1: MRR 1.0, recall at 1 1.0
#     1.9.0: MAP 1.0, cosines + 2: 0.583; the first of all, at -0.1: MRR 0.0, recall at 1 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat > try.py <<'PYTHON'
import sys

import torch
import torchmetrics
from torchmetrics.retrieval import RetrievalMAP, RetrievalMRR, RetrievalRecall

cosines = torch.tensor([[0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.0, -0.1, -0.2, -0.3, -0.4, -0.5]])
relevant = torch.zeros(1, 12, dtype=torch.bool)
relevant[0, [0, 11]] = True  # the first and the last: (1 / 1 + 2 / 12) / 2


def value(metric, scores, target):
    of_query = torch.zeros(scores.shape, dtype=torch.long)
    return round(float(metric(scores, target, indexes=of_query)), 3)


plain, moved = (value(RetrievalMAP(), cosines + by, relevant) for by in (0, 2))
negative = cosines - 0.7
first = torch.zeros(1, 12, dtype=torch.bool)
first[0, 0] = True
mrr, recall = (value(m, negative, first) for m in (RetrievalMRR(), RetrievalRecall(top_k=1)))
print(
    f"{torchmetrics.__version__}: MAP {plain}, cosines + 2: {moved}; "
    f"the first of all, at -0.1: MRR {mrr}, recall at 1 {recall}"
)
assert (plain, moved, mrr, recall) == (float(sys.argv[1]), 0.583, *[float(sys.argv[2])] * 2)
PYTHON
try() {
    venv/bin/pip install --quiet --disable-pip-version-check \
        "torchmetrics==$1" torch==2.13.0 numpy==2.3.5
    venv/bin/python -W ignore try.py "$2" "$3"
}
try 1.7.3 0.583 1.0
try 1.9.0 1.0 0.0
