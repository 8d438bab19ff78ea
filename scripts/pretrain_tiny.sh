#!/bin/sh
# The quickstart's experiment on several processes, minutes on two CPU cores; collects its data first.
# scripts/pretrain_tiny.sh PORT [HOSTFILE] [key=value ...]; --help explains.
set -eu
CONFIG=db1_tiny
COLLECT=yes
# Its own run beside the quickstart's; a micro-batch of 6 fits 1, 2 and 4 processes.
DEFAULTS="name=pretrain_tiny training.micro_batch_size=6 training.num_steps=500"
. "$(dirname "$0")/pretrain.sh"
pretrain "$@"
