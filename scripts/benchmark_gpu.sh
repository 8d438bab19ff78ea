#!/bin/sh
# Tokens a second and model FLOPs utilisation of training on this machine's first GPU, bf16.
#
#   scripts/benchmark_gpu.sh [MINUTES] [SIZE ...] [key=value ...]
#
#   MINUTES  for each size (3)
#   SIZE     79m, 364m, 1.2b, tiny or a YAML file (79m 364m 1.2b)
#
# Prints a Markdown table and writes it with all figures to runs/benchmark_gpu (OUT names another
# folder). On a GPU a training step and a decoding step of the 1.2B size follow, beside the released
# model's formulation of them (train.json, decode_1.json, decode_64.json). Needs no data: the sequences are synthetic, all else is the real training. PRECISION
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
out=${OUT:-runs/benchmark_gpu}
precision=${PRECISION:-bf16}
db1 bench training "$@" --minutes "$minutes" --precision "$precision" --out "$out"
command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1 || exit 0
db1 bench train --against released --width 2048 --layers 24 --heads 16 --batch 8 \
    --precision bf16 --device cuda --json "$out/train.json"
for batch in 1 64; do
    db1 bench decode --layers 24 --batch "$batch" --no-whole --precision bf16 --device cuda \
        --json "$out/decode_$batch.json"
done
