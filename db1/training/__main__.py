"""Trains an experiment on many processes.

deepspeed --num_gpus 2 --master_port 29502 --module db1.training configs/db1_tiny.yaml name=two
torchrun --nproc_per_node 2 -m db1.training configs/db1_tiny.yaml training.num_steps=100
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence

from db1.errors import Db1Error
from db1.failures import describe
from db1.processes.ending import run_program
from db1.runtime import current_rank, keep_freed_memory, setup_logging

EXIT_BAD_INPUT = 2


def parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    """Reads the command line; launchers add `--local_rank`, which the environment tells too."""
    parser = argparse.ArgumentParser(
        prog="python -m db1.training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("config", help="an experiment's YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="dotted overrides")
    parser.add_argument(
        "--local_rank", "--local-rank", type=int, default=0, help="set by launchers"
    )
    parser.add_argument("--debug", action="store_true", help="show tracebacks")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the training; returns the exit status: 0 done, 2 bad input, 3 a process was lost."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    rank = 0
    try:
        rank = current_rank().rank
        setup_logging(rank, logging.DEBUG if options.debug else logging.INFO)
        keep_freed_memory()
        from db1.training.experiment import run_experiment

        run_experiment(options.config, options.overrides)
        _leave_group()
    except Db1Error as error:
        if options.debug:
            raise
        if rank == 0:
            sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return EXIT_BAD_INPUT
    except (OSError, MemoryError, RecursionError) as error:
        if options.debug:
            raise
        sys.stderr.write(f"error: rank {rank}: {describe(error)}\n")
        return EXIT_BAD_INPUT
    except RuntimeError as error:
        from db1.training.faults.watchdog import EXIT_HUNG
        from db1.training.processes import is_lost_contact

        if options.debug or not is_lost_contact(error):
            raise
        sys.stderr.write(
            f"error: rank {rank} lost contact with another process, which ended or was killed (see "
            "what it said); checkpoints are unharmed, the same command goes on from the newest\n"
        )
        return EXIT_HUNG
    return 0


def _leave_group() -> None:
    import torch.distributed

    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    run_program(main)
