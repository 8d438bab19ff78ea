#!/bin/sh
# Writes text with a trained run.
#
#   scripts/generate_text.sh RUN                     talks on a terminal
#   scripts/generate_text.sh RUN "In the beginning"  writes on from a prompt
#   scripts/generate_text.sh RUN - < prompt.txt      reads the prompt from stdin
#
# More options of `db1 generate` follow the prompt: --temperature 0 --max-tokens 200 --stop "\n" ...
set -eu

if [ "$#" -lt 1 ]; then
    echo "usage: $0 RUN [PROMPT | -] [option of db1 generate ...]" >&2
    exit 2
fi
run=$1
shift
case ${1-} in
    '') [ "$#" -eq 0 ] || shift; exec db1 generate "$run" --stream "$@" ;;
    -) shift; exec db1 generate "$run" --stream "$@" ;;
    --*) exec db1 generate "$run" --stream "$@" ;;
    *) prompt=$1; shift; exec db1 generate "$run" --prompt "$prompt" --stream "$@" ;;
esac
