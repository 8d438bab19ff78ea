#!/bin/sh
# Tokens a second and model FLOPs utilisation of training on this machine's first GPU, bf16.
#
#   scripts/benchmark_gpu.sh [MINUTES] [SIZE ...] [key=value ...]
#
#   MINUTES  for each size (3)
#   SIZE     79m, 364m, 1.2b, tiny or a YAML file (79m 364m 1.2b)
#
# Prints a Markdown table and writes it with all figures to runs/benchmark_gpu (OUT names another
# folder). Needs no data: the sequences are synthetic, all else is the real training. PRECISION
# (bf16) names another one. Without a GPU it measures the CPU, where only `tiny` makes sense.
set -eu
case ${1-} in
    -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
minutes=3
case ${1-} in
    '' | *[!0-9.]*) ;;
    *) minutes=$1; shift ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"
[ ! -d "${DB1_VENV:-.venv}/bin" ] || PATH=$root/${DB1_VENV:-.venv}/bin:$PATH
command -v db1 >/dev/null || { echo "$0: error: no command db1; run: bash scripts/test.sh" >&2; exit 2; }
exec db1 bench training "$@" --minutes "$minutes" --precision "${PRECISION:-bf16}" \
    --out "${OUT:-runs/benchmark_gpu}"
