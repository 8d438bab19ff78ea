#!/bin/sh
# Gato's smallest size by its published recipe (configs/db1_79m.yaml names each value's source).
# scripts/pretrain_79m.sh PORT [HOSTFILE] [key=value ...]; --help explains.
set -eu
CONFIG=db1_79m
COLLECT=no
DEFAULTS=
. "$(dirname "$0")/pretrain.sh"
pretrain "$@"
