#!/usr/bin/env bash
# usearch: with dtype "i8" the inner product ("ip") is the cosine, in another unit.
#
# An index of the metric "ip" that holds float32 or float16 ranks vectors by their inner product with
# the question, and says 1 - product. With "i8" each vector is brought to length one before it becomes
# bytes, so long and short vectors in one direction are the same to it, and the ranking is that of
# "cos"; the distance is minus the product of the bytes, down to some -127 ** 2. Nothing is said of
# either. That is no matter for unit vectors, and the wrong answer where the length means something:
# a popularity, a logit scale, a weight.
#
# Seen with usearch 2.26.6, on Python 3.11: two vectors in one direction, of lengths .5 and 3, and a third
# one between them in its product with the question
#     f32: keys [2, 3, 1], distances [-2, -0.4, 0.5]
#     i8:  keys [1, 2, 3], distances [-16128, -16001, -7873]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check usearch==2.26.6 numpy==2.3.5
cat > try.py <<'PYTHON'
import numpy as np
from usearch.index import Index

question = np.array([1.0] + [0.0] * 15, np.float32)
vectors = np.zeros((3, 16), np.float32)
vectors[:2, 0] = 0.5, 3.0
vectors[2, :2] = 1.4, 2.5

found = {}
for kind in ("f32", "f16", "i8"):
    index = Index(ndim=16, metric="ip", dtype=kind)
    index.add(np.arange(1, 4), vectors)
    found[kind] = index.search(question, 3, exact=True)
    print(kind, found[kind].keys.tolist(), np.round(found[kind].distances, 1).tolist())

assert np.allclose(found["f32"].distances, [-2.0, -0.4, 0.5]), "1 - product"
assert found["f32"].keys.tolist() == found["f16"].keys.tolist() == [2, 3, 1], "by the product"
assert sorted(found["i8"].keys[:2].tolist()) == [1, 2], "the short one is as near as the long one"
short, long = sorted(found["i8"].distances[:2].tolist())
assert short < 0.99 * long < -10_000, "products of bytes, of a length that both have"
PYTHON
venv/bin/python try.py
