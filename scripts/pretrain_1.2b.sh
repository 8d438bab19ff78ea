#!/bin/sh
# Gato's and DB1's size by Gato's published recipe (configs/db1_1.2b.yaml names the sources).
# scripts/pretrain_1.2b.sh PORT [HOSTFILE] [key=value ...]; --help explains.
set -eu
CONFIG=db1_1.2b
COLLECT=no
DEFAULTS=
. "$(dirname "$0")/pretrain.sh"
pretrain "$@"
