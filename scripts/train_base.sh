#!/usr/bin/env bash
# The flagship, from nothing to the folder that is shipped: demonstrations of some 520 tasks from their
# experts, one model, its scores beside retrieval's and chance's, the report, models/db1_base.
# Every stage goes on where it was interrupted; run it again until it says that it is done.
# Arguments are overrides of the experiment, for a smaller or a longer one:
#   bash scripts/train_base.sh training.num_steps=6000
#   EPISODES=3 bash scripts/train_base.sh
set -euo pipefail
export DB1_ALL=1
source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
CONFIG=${CONFIG:-configs/db1_base.yaml}
RUN=${RUN:-runs/db1_base}
OUT=${OUT:-models/db1_base}
EPISODES=${EPISODES:-10}
START=$(date +%s)

stage() { echo; echo "== $1 of 6: $2 (after $((($(date +%s) - START) / 60)) min)"; }
# A task whose expert or simulator fails is named at the end of a stage; the others count.
goes_on() { "$@" || { [ $? -eq 1 ] && echo "train_base: some tasks failed, going on" >&2; }; }

stage 1 "collecting demonstrations"
db1 collect --config "$CONFIG" --reference-episodes 1
stage 2 "training"
db1 train "$CONFIG" "$@"
stage 3 "evaluating the model, $EPISODES episodes a task on unseen seeds"
goes_on db1 eval "$RUN" --episodes "$EPISODES" --reference measured --out "$RUN/evaluation"
stage 4 "evaluating the controls: nearest demonstrations, chance"
goes_on db1 eval "$RUN" --policy retrieval --episodes "$EPISODES" --reference measured \
    --out "$RUN/retrieval"
goes_on db1 eval "$RUN" --policy random --episodes "$EPISODES" --reference measured \
    --out "$RUN/random"
db1 compare "$RUN/evaluation" "$RUN/retrieval"
stage 5 "report"
db1 report "$RUN/evaluation" --html "$RUN/evaluation/report.html"
stage 6 "the folder that is handed on"
rm -rf "$OUT.new"
db1 convert "$RUN" "$OUT.new" --dtype bfloat16
cp "$RUN/evaluation/results.json" "$OUT.new/results.json"
[ -f "$OUT/README.md" ] && cp "$OUT/README.md" "$OUT.new/"
rm -rf "$OUT" && mv "$OUT.new" "$OUT"
echo; echo "done: $OUT; try: db1 play $OUT babyai/GoToLocal"
