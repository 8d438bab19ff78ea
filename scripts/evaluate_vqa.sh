#!/bin/sh
# Answers held-out questions of VQA v2 with a trained run and scores the answers.
#
#   scripts/evaluate_vqa.sh RUN VQA                VQA: the official question, annotation and image files
#   scripts/evaluate_vqa.sh RUN STORE              a split that `db1 import` stored, with questions
#
# More options of `db1 answer` follow: --choices-from answers.txt --limit 5000 --device cuda
# Settings, each also a variable of the environment:
SPLIT=${SPLIT:-val}               # its answers are public; of test and test-dev only answers are written
STORES=${STORES:-data/pairs/vqa}  # where the imported images lie
OUT=${OUT:-}                      # the result file; default: RUN/answers_SPLIT.json
MODE=${MODE:-official}            # of the accuracy: official or evalai
set -eu

if [ "$#" -lt 2 ]; then
    echo "usage: $0 RUN VQA_FOLDER_OR_STORE [option of db1 answer ...]" >&2
    exit 2
fi
run=$1 source=$2
shift 2

if [ -f "$source/header.json" ]; then
    store=$source
    SPLIT=$(basename "$source")
else
    store=$STORES/$SPLIT
    db1 import vqa "$source" --splits "$SPLIT" --out "$STORES"
fi
out=${OUT:-$run/answers_$SPLIT.json}
db1 answer "$run" "$store" --results "$out" "$@"
case $SPLIT in
    test*) [ -f "$source/header.json" ] || { echo "$out: ready for the evaluation server"; exit 0; } ;;
esac
db1 score vqa "$store" "$out" --mode "$MODE" --partial
