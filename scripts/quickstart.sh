#!/usr/bin/env bash
# From nothing to a trained and evaluated generalist agent on one CPU machine:
# installs, collects demonstrations, trains, evaluates on unseen seeds, writes the report.
# Running it again reuses what is there. Arguments are overrides of the experiment:
#   bash scripts/quickstart.sh training.num_steps=500
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
CONFIG=configs/db1_tiny.yaml
RUN=runs/db1_tiny
START=$(date +%s)

stage() { echo; echo "== $1 (after $(($(date +%s) - START)) s)"; }

stage "collecting demonstrations, text and images with texts"
db1 collect --config "$CONFIG" --reference-episodes 10
stage "training"
db1 train "$CONFIG" "$@"
stage "evaluating: 16 episodes a task on unseen seeds beside controls, text, captions and answers"
db1 eval "$RUN" --episodes 16 --out "$RUN/evaluation" \
    --controls retrieval,random,no-instruction
stage "report"
db1 report "$RUN/evaluation" --html "$RUN/evaluation/report.html"
stage "done"
cat <<NEXT
What next (source $VENV/bin/activate first):
  db1 play $RUN babyai/KeyCorridorS3R1     watch it act, with what it sees and may do
  db1 demo $RUN                            a page on this machine: write, see, act
  db1 record $RUN/evaluation && db1 report $RUN/evaluation --html report.html
                                           films of best, median and worst episodes in the report
NEXT
