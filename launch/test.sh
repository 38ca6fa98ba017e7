#!/usr/bin/env bash
# Runs the tests; arguments go to pytest, e.g. -m "not slow" for the quick part.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
EXTRAS=${EXTRAS:-test}
source launch/environment.sh

exec python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder "$@"
