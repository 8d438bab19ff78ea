#!/usr/bin/env bash
# The few-shot experiment on one CPU machine: a model pre-trained on four Meta-World tasks learns
# a fifth from ten demonstrations, against the same model from scratch; five seeds, interval printed.
#   bash scripts/few_shot.sh
#   bash scripts/few_shot.sh --episodes 3 --episodes 10 --start pretrained --start lora --start scratch
# Arguments go to `db1 bench few-shot`. Run again, it goes on where it was cut off.
# Exit status 1 when the gain's interval does not lie above 0.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
BASE=configs/few_shot_base.yaml
CONFIG=configs/few_shot.yaml
TASK=metaworld/reach-wall-v3
DATA=data/few_shot
START=$(date +%s)

stage() { echo; echo "== $1 (after $(($(date +%s) - START)) s)"; }

stage "collecting demonstrations"
db1 collect --config "$BASE" --reference-episodes 1
db1 collect "$TASK" --episodes 40 --max-steps 150 --action-noise 0.3 --reference-episodes 1 \
    --out "$DATA"
stage "pre-training without $TASK"
db1 train "$BASE"
stage "fine-tuning on ten demonstrations, and from scratch"
db1 bench few-shot "$CONFIG" --out runs/few_shot --evaluation-episodes 10 --memory 0 \
    --require-gain "$@"
stage "done"
