#!/usr/bin/env bash
# Lint and tests. Installs what it needs on the first run.
#   bash scripts/test.sh              the default tests, in parallel
#   bash scripts/test.sh -m slow      the slow ones; any pytest arguments do
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest -n "${DB1_TEST_PROCESSES:-2}" --dist loadgroup -q "$@"
