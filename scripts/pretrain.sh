# What scripts/pretrain_*.sh share: paths, help, and the start of a training. Sourced, POSIX sh.
# shellcheck shell=sh disable=SC2153  # CONFIG, COLLECT and DEFAULTS come from the script

ROOT=$(cd "$(dirname "$0")/.." && pwd)

# Paths: change them here or in the environment. Relative ones begin at the top of the repository.
VENV=${DB1_VENV:-.venv}          # where scripts/setup.sh installed db1; one on PATH does, too
CONFIGS=${DB1_CONFIGS:-configs}  # CONFIGS/db1_tiny.yaml, ...
RUNS=${DB1_RUNS:-}               # folder of all runs; default: the configuration's (runs)
DATA=${DB1_DATA:-}               # folder of the stores; default: the configuration's (data/...)

usage() {
    cat <<END
usage: $0 PORT [HOSTFILE] [key=value ...]

Trains $CONFIGS/$CONFIG.yaml through the deepspeed launcher. The same command resumes.

  PORT       a free port of the (first) machine, where the processes meet
  HOSTFILE   the machines, a line 'HOST slots=PROCESSES' for each; without it this machine alone
  key=value  overrides of the configuration, such as training.micro_batch_size=4 name=second

Environment:
  PROCESSES  processes on this machine, without a hostfile; default: one a GPU, 2 without a GPU
  NODE_RANK  without ssh: this machine's line in the hostfile, from 0; run the command on each one
  MASTER     with NODE_RANK: address of the first machine, if not its name in the hostfile
  DB1_VENV DB1_CONFIGS DB1_RUNS DB1_DATA   paths, see scripts/pretrain.sh

Examples:
  $0 29502
  $0 29502 hosts training.zero_stage=2        (pdsh and ssh start the other machines)
  NODE_RANK=1 $0 29502 hosts                  (on the second machine)
  PROCESSES=4 $0 29502 training.num_steps=100 name=short
END
}

die() {
    echo "$(basename "$0"): error: $*" >&2
    exit 2
}

# Makes a path that the caller gave absolute: the training runs at the top of the repository.
absolute() {
    case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac
}

# pretrain ARGUMENT...: reads the command line and replaces this shell by the training.
# Set before: CONFIG (name of the configuration), COLLECT (yes: make missing data first) and, if the
# script changes some, DEFAULTS (overrides that the user's own come after, separated by blanks).
pretrain() {
    case ${1-} in
        -h | --help) usage; exit 0 ;;
        '') usage >&2; exit 2 ;;
    esac
    port=$1
    shift
    case $port in
        *[!0-9]*) die "PORT: got '$port', expected a number such as 29502; see $0 --help" ;;
    esac
    hostfile=
    case ${1-} in
        '' | *=*) ;;
        *) hostfile=$(absolute "$1"); shift ;;
    esac
    for override in "$@"; do
        case $override in
            *=*) ;;
            *) die "got '$override', expected key=value; see $0 --help" ;;
        esac
    done
    case $VENV in /*) bin=$VENV/bin ;; *) bin=$ROOT/$VENV/bin ;; esac
    [ ! -d "$bin" ] || PATH=$bin:$PATH
    cd "$ROOT" || exit 2
    command -v db1 >/dev/null || die "no command db1 in $bin or on PATH; run: bash scripts/test.sh"
    render_without_screen
    [ -z "$DATA" ] || set -- "data.root=$DATA" "$@"
    [ -z "$RUNS" ] || set -- "runs=$RUNS" "$@"
    # shellcheck disable=SC2086  # separated by blanks
    set -- $DEFAULTS "$@"
    [ -z "$hostfile" ] || set -- --hostfile "$hostfile" "$@"
    [ -z "${NODE_RANK:-}" ] || set -- --node-rank "$NODE_RANK" "$@"
    [ -z "${MASTER:-}" ] || set -- --master-address "$MASTER" "$@"
    [ -z "${PROCESSES:-}" ] || set -- --processes "$PROCESSES" "$@"
    set -- "$CONFIGS/$CONFIG.yaml" --port "$port" "$@"
    db1 launch --show "$@" >/dev/null  # all checks, before data is collected
    [ "$COLLECT" != yes ] || collect
    exec db1 launch "$@"
}

# Demonstrations and text of the configuration; what is there already is kept.
collect() {
    [ "${NODE_RANK:-0}" = 0 ] || return 0  # the first machine collects
    db1 collect --config "$CONFIGS/$CONFIG.yaml" ${DATA:+--out "$DATA"} --reference-episodes 10
}

# For tasks of pixels: a screen is rarely there, the library for rendering without one often.
render_without_screen() {
    if [ -z "${MUJOCO_GL:-}" ] && ldconfig -p 2>/dev/null | grep -q 'libEGL\.so\.1'; then
        MUJOCO_GL=egl
        export MUJOCO_GL
    fi
}
