#!/usr/bin/env bash
# torchmetrics gives a class without positives an AUROC and an average precision of 0, and averages it.
#
# Sounds are rare: a fold, a batch or a data set of ten-second clips often has no positive example of
# some classes, for which neither number is defined. With `average="macro"`, the default,
# MultilabelAUROC and MultilabelAveragePrecision count 0 for each of them. So a perfect score of four
# classes, one of which is absent, is 0.75, and one of 400 classes of which half are in a fold is 0.5;
# two systems are compared by how many classes their test set has. The code for undefined classes, which
# leaves out NaN, is there and never reached. A warning tells that a true positive *rate* is zero or that
# recall is set to one, not that the mean is of other things. Ask for `average="none"`, and take the mean
# over classes with positives (for AUROC: with negatives, too).
#
# Seen with torchmetrics 1.9.0, torch 2.13.0, on Python 3.11: scores that rank all frames right
#     four classes with positives: AUROC 1.0, average precision 1.0
#     one of them without: AUROC 0.75, average precision 0.75; by class AUROC 1.0 1.0 1.0 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
    torchmetrics==1.9.0 torch==2.13.0 numpy==2.3.5
cat > try.py <<'PYTHON'
import torch
from torchmetrics.classification import MultilabelAUROC, MultilabelAveragePrecision

N_CLASSES = 4
torch.manual_seed(0)
active = torch.rand(1000, N_CLASSES) < 0.1
scores = torch.rand(1000, N_CLASSES) / 2 + active / 2.0  # every positive above every negative
without = active.clone()
without[:, 3] = False


def values(target, average="macro"):
    metrics = MultilabelAUROC, MultilabelAveragePrecision
    found = [m(N_CLASSES, average=average)(scores, target.int()) for m in metrics]
    return [value.round(decimals=5).abs().tolist() for value in found]  # -0.0 among them


auroc, precision = values(active)
print(f"four classes with positives: AUROC {auroc}, average precision {precision}")
assert auroc == precision == 1.0
auroc, precision = values(without)
by_class = values(without, average="none")
print(
    f"one of them without: AUROC {auroc}, average precision {precision}; "
    f"by class AUROC {' '.join(map(str, by_class[0]))}"
)
assert auroc == precision == 0.75
assert by_class == [[1.0, 1.0, 1.0, 0.0]] * 2, by_class
PYTHON
venv/bin/python -W ignore try.py
