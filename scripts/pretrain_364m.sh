#!/bin/sh
# Gato's middle size by its published recipe (configs/db1_364m.yaml names each value's source).
# scripts/pretrain_364m.sh PORT [HOSTFILE] [key=value ...]; --help explains.
set -eu
CONFIG=db1_364m
COLLECT=no
DEFAULTS=
. "$(dirname "$0")/pretrain.sh"
pretrain "$@"
