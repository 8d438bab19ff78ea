#!/usr/bin/env bash
# Lint and tests. Installs what it needs on the first run.
#   bash scripts/test.sh              the default tests, in parallel
#   bash scripts/test.sh -m slow      the slow ones; any pytest arguments do
#   bash scripts/test.sh -m slow tests/test_shown_commands.py tests/test_tutorials.py
#                                     types all pages of the documentation in fresh environments
#   bash scripts/test.sh --all-suites ...   installs every suite and importer first, so that no
#                                     test is left out for a missing package
set -euo pipefail
if [ "${1:-}" = --all-suites ]; then
    shift
    export DB1_ALL=1
fi
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
ruff check .
ruff format --check .
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
exec python -m pytest -n "${DB1_TEST_PROCESSES:-2}" --dist loadgroup -q "$@"
