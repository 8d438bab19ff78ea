#!/usr/bin/env bash
# Measures what docs/benchmarks.md shows, one after the other, on this machine; keeps each as
# docs/results/NAME.json and writes the pages anew. About 25 minutes on two quiet cores.
#
#   bash scripts/benchmarks.sh                   all that this commit has not measured yet
#   bash scripts/benchmarks.sh --again           all of it
#   bash scripts/benchmarks.sh decode_1 serving  only these
#   bash scripts/benchmarks.sh 'decode_*'        only what the pattern matches
#   bash scripts/benchmarks.sh --list            the names; ablation_* and held_out only when named
#   ROUNDS=1 bash scripts/benchmarks.sh          a trial of the whole: one round of each contender
#
# Ended in the middle, the same command goes on where it was: what was measured at this commit is not
# measured again without --again. `stranger` needs the network; it installs into a folder of its own.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
[ ! -d "${DB1_VENV:-.venv}/bin" ] || PATH=$root/${DB1_VENV:-.venv}/bin:$PATH
rounds=${ROUNDS:-3}
again=() wanted=() failed=() list=

while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) sed -n '2,/^set/s/^# \{0,1\}//p' "$0"; exit 0 ;;
        --again) again=(--again) ;;
        --list) list=1 ;;
        -*) echo "$0: error: no option $1; see --help" >&2; exit 2 ;;
        *) wanted+=("$1") ;;
    esac
    shift
done

is_wanted() { # is_wanted NAME: named, or nothing is
    local pattern
    [ ${#wanted[@]} -gt 0 ] || return 0
    for pattern in "${wanted[@]}"; do
        # shellcheck disable=SC2053
        [[ $1 != $pattern ]] || return 0
    done
    return 1
}

measure() { # measure NAME [--shown COMMAND] -- COMMAND...
    local name=$1; shift
    [ -z "$list" ] || { echo "$name"; return 0; }
    is_wanted "$name" || return 0
    known=1
    echo "== $name" >&2
    python scripts/measure.py "$name" "${again[@]}" "$@" || failed+=("$name")
}

has_bf16() { grep -qE 'avx512_bf16|amx_bf16' /proc/cpuinfo; }
known=

measure train -- db1 bench train --against released --rounds "$rounds" --json FILE
! has_bf16 || measure train_bf16 -- \
    db1 bench train --against released --precision bf16 --rounds "$rounds" --json FILE
for threads in 1 2; do
    measure "decode_$threads" -- db1 bench decode --threads "$threads" --rounds "$rounds" --json FILE
done
measure decode_8 -- db1 bench decode --batch 8 --no-whole --rounds "$rounds" --json FILE
measure decode_1024 -- db1 bench decode --width 1024 --no-whole --rounds "$rounds" --json FILE
measure attention -- db1 bench attention --rounds "$rounds" --json FILE
measure attention_memory -- db1 bench attention --memory 1024 --rounds "$rounds" --json FILE
measure perplexity -- db1 bench perplexity --rounds "$rounds" --json FILE
measure freed_memory -- python scripts/benchmark_freed_memory.py --rounds "$rounds" --json FILE
measure serving -- \
    db1 bench serving base --sessions 64 --processes 64 --steps 20 --threads 1 --json FILE
for size in 79m 364m 1.2b; do
    measure "parameters_$size" -- db1 train "configs/db1_$size.yaml" --dry-run --json
done
measure kernels -- python scripts/compiled_kernels.py --json FILE
measure tours -- python scripts/compare_tours.py --tasks tsp100 --runs 3 --seconds 0.3 --json FILE
measure released -- python scripts/benchmark_released.py --size 1.2b --json FILE
measure faults -- python scripts/fault_harness.py --kills 4 --launcher none
measure fuzz -- python scripts/fuzz.py --share 0.1
memories='--memory-length 0 --memory-length 32 --memory-length 128 --memory-length 512'
scored="--target-length 32 $memories --max-tokens 16000"
measure text_memory --shown "db1 perplexity runs/text_tiny $scored" -- bash -c "
    set -e; rm -rf runs/benchmark_text; { db1 collect --config configs/text_tiny.yaml
    db1 train configs/text_tiny.yaml name=benchmark_text; } >&2
    db1 perplexity runs/benchmark_text $scored --json"
measure suites -- python scripts/benchmark_suites.py --json FILE
measure scaling -- db1 bench scaling --json FILE
measure data -- db1 bench data --json FILE
[ ! -f scripts/benchmark_importers.py ] || \
    measure importers -- python scripts/benchmark_importers.py --json FILE
# an hour and more: only where they are named
if [ ${#wanted[@]} -gt 0 ] || [ -n "$list" ]; then
    measure ablation_patches -- python scripts/ablation.py patches --json FILE
    measure ablation_instructions -- python scripts/ablation.py instructions --json FILE
    measure held_out -- python scripts/held_out.py --json FILE
fi
measure stranger -- python scripts/stranger_clock.py --json FILE

[ -z "$list" ] || exit 0
if [ -z "$known" ]; then
    echo "$0: error: nothing is called ${wanted[*]}; see --list" >&2; exit 2
fi
python scripts/figures.py
if [ ${#failed[@]} -gt 0 ]; then
    echo "$0: error: not measured: ${failed[*]}" >&2; exit 1
fi
