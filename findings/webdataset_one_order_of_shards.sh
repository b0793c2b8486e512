#!/usr/bin/env bash
# webdataset's shardshuffle has one order of shards, the same in every epoch.
#
# `WebDataset(urls, shardshuffle=100)` draws a seed when it is made, and begins with it again whenever
# it is read; in 0.2.86 every epoch had an order of its own. Samples are shuffled within a buffer
# alone, so that those of a part of the data come together in every epoch. And where `with_epoch` ends
# an epoch before the end of the data, as with large sets, each begins anew with the same shards: the
# others are never seen, with `repeat` as without. `detshuffle=True` has another order each time, but
# not in the workers of a DataLoader, unless they persist. `resampled=True` helps. No error and no
# warning.
#
# Seen with webdataset 0.2.86 and 1.0.2, torch 2.13.0, on Python 3.11: orders of 20 shards in 10 epochs,
# and how many of 100 samples are seen in 50 epochs of 25 samples
#     0.2.86: 10 orders, 100 seen; with detshuffle 100, in workers 68; resampled 100
#     1.0.2: 1 orders, 34 seen; with detshuffle 100, in workers 68; resampled 100
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
cat > try.py <<'PYTHON'
import importlib.metadata
import sys

import webdataset
from torch.utils.data import DataLoader

SHARDS = [f"{i:02d}.tar" for i in range(20)]
for name in SHARDS:
    with webdataset.TarWriter(name) as shard:
        for i in range(5):
            shard.write({"__key__": f"{name[:2]}-{i}", "cls": 0})


def orders(n_epochs=10):
    data = webdataset.WebDataset(SHARDS, shardshuffle=100)
    return len({tuple(sample["__key__"] for sample in data) for _ in range(n_epochs)})


def seen(n_epochs=50, n_workers=0, repeated=False, persistent=False, **how):
    data = webdataset.WebDataset(SHARDS, **how)
    data = (data.repeat() if repeated else data).shuffle(10).with_epoch(25)
    if n_workers:
        data = DataLoader(
            data, batch_size=None, num_workers=n_workers, persistent_workers=persistent
        )
    return len({sample["__key__"] for _ in range(n_epochs) for sample in data})


n_orders, plain = orders(), seen(shardshuffle=100)
alone = seen(shardshuffle=100, detshuffle=True)
workers = seen(shardshuffle=100, detshuffle=True, n_workers=2)
resampled = seen(resampled=True, shardshuffle=False)
print(
    f"{importlib.metadata.version('webdataset')}: {n_orders} orders, {plain} seen; "
    f"with detshuffle {alone}, in workers {workers}; resampled {resampled}"
)
assert (n_orders, plain == 100) == ((10, True) if sys.argv[1] == "each" else (1, False))
assert alone == resampled == 100 and workers < 80, (alone, workers, resampled)
assert seen(shardshuffle=100, detshuffle=True, n_workers=2, persistent=True) == 100
if sys.argv[1] == "one":
    assert plain < 50 and seen(shardshuffle=100, repeated=True) < 50
    assert seen(shardshuffle=100, n_workers=2) < 80
PYTHON
try() {
    venv/bin/pip install --quiet --disable-pip-version-check \
        "webdataset==$1" torch==2.13.0 numpy==2.3.5
    venv/bin/python -W ignore try.py "$2"
}
try 0.2.86 each
try 1.0.2 one
