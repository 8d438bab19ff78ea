"""A process that ends while its last message is still under way."""

import subprocess
import sys

ENDING = """
import atexit, sys, threading, time, weakref
import torch, torch.distributed as distributed
from db1.processes.ending import run_program

def main():
    global group
    rank = int(sys.argv[1])
    store = distributed.FileStore(sys.argv[2], 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    group = distributed.group.WORLD  # as DeepSpeed keeps it
    atexit.register(print, "exit handler", flush=True)
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    message = torch.ones(100_000_000)[:10]  # 400 MB take long to free
    dropped = threading.Event()
    weakref.finalize(message, dropped.set)
    distributed.barrier()
    if rank == 1:
        time.sleep(1)
    distributed.all_reduce(message, async_op=True)
    del message
    dropped.wait()
    return 7 * rank

run_program(main)
"""


def test_a_process_whose_last_message_is_under_way_ends_well(tmp_path):
    """The process ends while a thread of its group frees the memory of a message."""
    started = [
        subprocess.Popen(
            [sys.executable, "-c", ENDING, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 7], said
    assert said[0].split("\n")[-3:-1] == ["thread", "exit handler"]
