#!/usr/bin/env bash
# Installs torch and transformers, makes the golden folders of tests/golden/ anew with them, compares, and runs the
# tests that hold our models against the originals themselves. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRAS=${EXTRAS:-test}
source launch/environment.sh

.venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$constraints" \
  --requirement constraints/originals.txt
python tests/golden/make.py --check
mapfile -t files < <(grep --files-with-matches --fixed-strings mark.originals tests/test_*.py)
exec python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder -m originals "${files[@]}" "$@"
