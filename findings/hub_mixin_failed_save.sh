#!/usr/bin/env bash
# A save of huggingface_hub's ModelHubMixin that fails leaves the model saved before without its
# config.json.
#
# `ModelHubMixin.save_pretrained` removes config.json from the folder before it calls the class's
# own `_save_pretrained`, and writes it again afterwards. When that hook raises, because the disk is
# full, say, the folder keeps the old weights and has lost the configuration they need.
#
# Seen with huggingface_hub 2.4.0, on Python 3.11:
#     after the first save: ['README.md', 'config.json', 'weights.txt']
#     after a save that failed: ['README.md', 'weights.txt']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check huggingface_hub==2.4.0 jinja2==3.1.6
cat > try.py <<'PYTHON'
import os

import huggingface_hub
from huggingface_hub import ModelHubMixin


class Model(ModelHubMixin):
    def __init__(self, size: int = 3, full: bool = False):
        self.size, self.full = size, full

    def _save_pretrained(self, save_directory):
        if self.full:
            raise OSError("No space left on device")
        (save_directory / "weights.txt").write_text("1 2 3")


Model(size=3).save_pretrained("saved")
before = sorted(os.listdir("saved"))
try:
    Model(size=4, full=True).save_pretrained("saved")
except OSError as error:
    print("the second save:", error)
after = sorted(os.listdir("saved"))
print("huggingface_hub", huggingface_hub.__version__)
print("after the first save:", before)
print("after a save that failed:", after)
assert "config.json" in before
assert "weights.txt" in after
assert "config.json" not in after, "the configuration stays now"
PYTHON
venv/bin/python try.py
