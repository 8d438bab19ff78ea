#!/bin/sh
# Captions held-out images of COCO with a trained run and scores the captions.
#
#   scripts/evaluate_caption.sh RUN COCO           COCO: annotations/, train2014/, val2014/
#   scripts/evaluate_caption.sh RUN STORE          a split that `db1 import` stored, with captions
#
# More options of `db1 caption` follow: --beams 5 --limit 500 --device cuda
# Settings, each also a variable of the environment:
KARPATHY=${KARPATHY:-1}           # 1: the splits of dataset_coco.json (Karpathy); 0: the official ones
SPLIT=${SPLIT:-}                  # default: test of Karpathy's splits, val of the official ones
STORES=${STORES:-data/pairs/coco} # where the imported images lie
OUT=${OUT:-}                      # the result file; default: RUN/captions_SPLIT.json
TOKENIZER=${TOKENIZER:-auto}      # of the scores: ptb, plain, or auto (ptb where Java is)
JAVA=${JAVA:-java}                # java: METEOR and SPICE, where they can run; no-java: without them
set -eu

if [ "$#" -lt 2 ]; then
    echo "usage: $0 RUN COCO_FOLDER_OR_STORE [option of db1 caption ...]" >&2
    exit 2
fi
run=$1 source=$2
shift 2

if [ -f "$source/header.json" ]; then
    store=$source
    SPLIT=${SPLIT:-$(basename "$source")}
elif [ "$KARPATHY" = 1 ]; then
    SPLIT=${SPLIT:-test} store=$STORES/${SPLIT:-test}
    db1 import coco "$source" --karpathy --splits "$SPLIT" --out "$STORES"
else
    SPLIT=${SPLIT:-val} store=$STORES/${SPLIT:-val}
    db1 import coco "$source" --splits "$SPLIT" --out "$STORES"
fi
out=${OUT:-$run/captions_$SPLIT.json}
db1 caption "$run" "$store" --results "$out" "$@"
db1 score captions "$store" "$out" --tokenizer "$TOKENIZER" "--$JAVA" --partial
