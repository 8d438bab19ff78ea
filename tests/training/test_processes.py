"""What the processes of a training say when they cannot meet, or lose one another."""

import socket
import subprocess
import sys

import pytest

from db1.errors import CheckpointError, ConfigError, DataError
from db1.training.processes import Processes, _meet, is_lost_contact


def test_a_port_in_use_is_told_of(monkeypatch):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        place = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for name, value in place.items():
            monkeypatch.setenv(name, str(value))
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port} is in use by another program"):
            _meet("gloo")


def test_lost_contact_is_known_by_its_message():
    gone = "[gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:38765"
    assert is_lost_contact(RuntimeError(gone))
    assert not is_lost_contact(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_lost_contact(ValueError(gone))


@pytest.mark.parametrize("kind", [ConfigError, DataError, CheckpointError])
def test_errors_of_a_kind_stay_of_that_kind(kind):
    class Special(kind):
        pass

    def work():
        raise Special("what happened")

    with pytest.raises(kind, match="what happened"):
        Processes("torch").together(work, lambda nothing: None)


ENDING = """
import atexit, sys, threading, time, weakref
import torch, torch.distributed as distributed
from db1.training.processes import end_process

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
END
"""


def test_a_process_whose_last_message_is_under_way_ends_well(tmp_path):
    """The process ends while a thread of its group frees the memory of a message."""
    script = ENDING.replace("END", "end_process(7 * rank)")
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rank), str(tmp_path / "store")],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [process.communicate(timeout=60)[0] for process in started]
    assert [process.returncode for process in started] == [0, 7], said
    assert said[0].split("\n")[-3:-1] == ["thread", "exit handler"]
