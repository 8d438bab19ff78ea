#!/bin/sh
# What evaluate_rl_1.3B.sh and evaluate_rl_1.2B.sh share; they set the variables and read this file.
set -eu

fail() { echo "$NAME: error: $*" >&2; exit 2; }

[ "$#" -le 1 ] || fail "got $# arguments, expected one: a free port"
PORT=${1:-29503}
case $PORT in
    *[!0-9]*|'') fail "port $PORT: expected a number from 1 to 65535" ;;
esac
[ "$PORT" -ge 1 ] && [ "$PORT" -le 65535 ] || fail "port $PORT: expected a number from 1 to 65535"
[ -e "$LOAD_DIR" ] || fail "LOAD_DIR=$LOAD_DIR: no such folder; set it to the model's"
[ -d "$RL_CACHE_DIR" ] || fail "RL_CACHE_DIR=$RL_CACHE_DIR: no such folder; set it to the" \
    "demonstrations' (db1 collect, or db1 import db1-cache for the released ones)"
command -v deepspeed >/dev/null || fail "no deepspeed command; activate the environment of db1"

# A run or a safetensors folder needs no tag: TAG_NAME then only names the results.
set --
if [ -d "$LOAD_DIR/checkpoints/$TAG_NAME" ]; then
    set -- --checkpoint "$TAG_NAME"
elif [ -d "$LOAD_DIR" ] && [ ! -f "$LOAD_DIR/config.yaml" ] && [ ! -f "$LOAD_DIR/config.json" ] \
    && [ ! -f "$LOAD_DIR/mp_rank_00_model_states.pt" ]; then
    set -- --checkpoint "$TAG_NAME"
fi
for suite in $TEST_SUITES; do set -- "$@" --suite "$suite"; done
for task in $TEST_ENVS; do set -- "$@" --task "$task"; done

OUTPUT_DIR=rl_eval_results/$TAG_NAME
mkdir -p "$OUTPUT_DIR"
STATUS=$OUTPUT_DIR/.status
# dash knows no pipefail: the status goes through a file.
{
    rc=0
    # shellcheck disable=SC2086
    deepspeed --num_gpus "$NUM_PROCESSES" --master_port "$PORT" --no_local_rank --module \
        db1 eval "$LOAD_DIR" --preset "$PRESET" --data "$RL_CACHE_DIR" --out "$OUTPUT_DIR" --log \
        "$@" $EXTRA_OPTIONS || rc=$?
    echo "$rc" > "$STATUS"
} 2>&1 | tee "$OUTPUT_DIR/results.output"
rc=$(cat "$STATUS")
rm -f "$STATUS"
exit "$rc"
