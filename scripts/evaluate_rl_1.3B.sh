#!/bin/sh
# Evaluates the published DB1 checkpoint, or any model of db1, on simulated tasks:
#
#   sh scripts/evaluate_rl_1.3B.sh PORT        PORT: a free one for DeepSpeed, such as 29002
#
# The performance on all environments is logged in rl_eval_results/$TAG_NAME/results.output, one line
# an environment; results.json beside it is what `db1 report` reads. The same command resumes.
# What is set here can also be set in the environment: LOAD_DIR=... sh scripts/evaluate_rl_1.3B.sh 29002

# Demonstrations that the prompts come from (db1 collect; db1 import db1-cache for released ones).
RL_CACHE_DIR=${RL_CACHE_DIR:-rl_minimal_exp_data}
# The published checkpoint, a run folder or a safetensors folder.
LOAD_DIR=${LOAD_DIR:-model_checkpoints}
# Tag of the checkpoint, and name of the results.
TAG_NAME=${TAG_NAME:-db1_870task_checkpoint}
# Settings: released (5 trials, DB1's prompts) or publication (50 episodes).
PRESET=${PRESET:-released}
# Suites or single tasks; empty: all tasks with demonstrations, or that the run learned.
TEST_SUITES=${TEST_SUITES:-}
TEST_ENVS=${TEST_ENVS:-}
# Processes that share the tasks, one a GPU.
NUM_PROCESSES=${NUM_PROCESSES:-1}
# More options of `db1 eval`, such as --allow-missing-reference.
EXTRA_OPTIONS=${EXTRA_OPTIONS:-}

NAME=evaluate_rl_1.3B.sh
. "$(dirname "$0")/evaluate_rl.sh"
