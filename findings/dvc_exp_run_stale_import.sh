#!/usr/bin/env bash
# `dvc exp run` declares the copy of an import to be up to date with a source that has changed.
#
# A `.dvc` file may import a folder that a stage makes, so that `dvc repro` copies it whenever it
# changes. `dvc exp run` begins by committing all `.dvc` files by force: it writes the digest of the
# changed source beside that of the old copy. The import is then up to date, the copy is not made,
# later stages run on the old one, and `dvc status` has nothing to say.
#
# Seen with dvc 3.67.1, on Python 3.11:
#     before: source=two copy=one used=one; status names data.dvc
#     after dvc exp run: source=two copy=one used=one; Data and pipelines are up to date.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check dvc==3.67.1
export PATH="$folder/venv/bin:$PATH"
mkdir project && cd project
git init --quiet && git config user.name a && git config user.email a@example.org
dvc init --quiet && dvc config core.analytics false
cat > dvc.yaml <<'YAML'
stages:
  source:
    cmd: cp given.txt source.txt
    params: [n]
    outs: [source.txt]
  use:
    cmd: cp copy.txt used.txt
    deps: [copy.txt]
    params: [m]
    outs: [used.txt]
YAML
printf 'deps:\n- path: source.txt\nouts:\n- path: copy.txt\n' > data.dvc
printf 'n: 1\nm: 1\n' > params.yaml
printf '/source.txt\n/copy.txt\n/used.txt\n' > .gitignore
echo one > given.txt
dvc repro --quiet
git add --all && git commit --quiet --message first
told() { echo "source=$(cat source.txt) copy=$(cat copy.txt) used=$(cat used.txt)"; }

echo two > given.txt
dvc repro --quiet --force source  # what it reads is no dependency: a folder of the user's own
dvc --version
echo "before: $(told)"
dvc status | grep --quiet data.dvc
dvc exp run --quiet --set-param m=2
echo "after dvc exp run: $(told); $(dvc status)"
test "$(told)" = "source=two copy=one used=one"  # the copy is made now: it was not
dvc status | grep --quiet "up to date"
