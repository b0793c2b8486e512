#!/usr/bin/env bash
# A folder without a tokenizer gives one that knows no word, and nobody is told.
#
# `RobertaTokenizer.from_pretrained` of an empty folder, and `AutoTokenizer.from_pretrained` of one
# that holds a config.json and no vocabulary, raise nothing in transformers 5: they return a
# tokenizer of the five special tokens. Every text becomes the same two tokens, so that a model
# whose tokenizer was forgotten when it was copied gives all texts one embedding.
#
# Seen with transformers 5.23.0, on Python 3.11:
#     RobertaTokenizer, empty folder: 5 tokens, "a dog barks" is [2, 3], "rain" is [2, 3]
#     AutoTokenizer, config.json alone: 5 tokens, "a dog barks" is [2, 3], "rain" is [2, 3]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check transformers==5.23.0
cat > try.py <<'PYTHON'
import json
import os

import transformers

os.makedirs("empty")
os.makedirs("configuration")
with open("configuration/config.json", "w") as file:
    json.dump({"model_type": "roberta", "vocab_size": 50265}, file)
print("transformers", transformers.__version__)
for name, kind, folder in (
    ("RobertaTokenizer, empty folder", transformers.RobertaTokenizer, "empty"),
    ("AutoTokenizer, config.json alone", transformers.AutoTokenizer, "configuration"),
):
    tokenizer = kind.from_pretrained(folder, local_files_only=True)
    ids = {text: tokenizer(text)["input_ids"] for text in ("a dog barks", "rain")}
    said = ", ".join(f'"{text}" is {found}' for text, found in ids.items())
    print(f"{name}: {len(tokenizer)} tokens, {said}")
    assert len(tokenizer) == 5, "more than the special tokens now"
    assert ids["a dog barks"] == ids["rain"], "texts are told apart now"
PYTHON
venv/bin/python try.py
