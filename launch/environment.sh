# shellcheck shell=bash
# Sourced by the other scripts, from the root of the repository: makes .venv for $PYTHON (python3 by default) with the
# versions pinned in constraints/, installs t5like with the extras in $EXTRAS, and puts its commands on the PATH.
set -euo pipefail

PYTHON=${PYTHON:-python3}
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
constraints=constraints/python$version.txt
if [ ! -f "$constraints" ]; then
  echo "$PYTHON is Python $version; t5like is tested with: $(cd constraints && echo python*.txt | sed 's/python//g; s/\.txt//g'). Set PYTHON." >&2
  exit 2
fi
if [ ! -e .venv ] || { [ -f .venv/t5like-python ] && [ "$(cat .venv/t5like-python)" != "$version" ]; }; then
  "$PYTHON" -m venv --clear .venv
  echo "$version" > .venv/t5like-python
elif [ ! -f .venv/t5like-python ]; then
  echo "There is a .venv that t5like did not make: move it away." >&2
  exit 2
fi
wanted="${EXTRAS:-} $(cat setup.py "$constraints" | cksum)"
if ! grep -qsxF "$wanted" .venv/t5like-installed; then
  echo "Installing t5like into .venv with Python $version ..."
  .venv/bin/python -m pip install --quiet --disable-pip-version-check --constraint "$constraints" \
    --editable ".${EXTRAS:+[$EXTRAS]}"
  echo "$wanted" >> .venv/t5like-installed
fi
export PATH="$PWD/.venv/bin:$PATH"
