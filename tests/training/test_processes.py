"""What the processes of a training say when they cannot meet, or lose one another."""

import socket

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
        Processes("torch").run_and_gather(work, lambda nothing: None)
