#!/usr/bin/env bash
# The documentation as a site, from docs/ and from the code (mkdocs.yml, scripts/docs_pages.py).
#   bash scripts/docs.sh           serves it on http://127.0.0.1:8000 and follows changes
#   bash scripts/docs.sh build     writes build/site; a broken link or anchor is an error
# Needs pip install "db1[docs]"; nothing is fetched while it builds.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
PATH="$PWD/${DB1_VENV:-.venv}/bin:$PATH"
command -v mkdocs >/dev/null || {
    echo 'docs: error: no mkdocs here; run: pip install "db1[docs]"' >&2
    exit 2
}
export NO_MKDOCS_2_WARNING=1
case ${1:-serve} in
    serve) exec mkdocs serve --strict ;;
    build) exec mkdocs build --strict --quiet ;;
    *) echo "docs: error: got $1, expected serve or build" >&2; exit 2 ;;
esac
