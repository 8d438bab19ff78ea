"""Reading a torch file runs nothing of what its pickle may ask for."""

import argparse
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.errors import CheckpointError
from db1.pickles import Inert, load_pickled


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def test_tensors_and_containers_come_back(tmp_path: Path) -> None:
    weights = OrderedDict(a=torch.randn(3, 4).half(), p=torch.nn.Parameter(torch.ones(2)))
    torch.save({"module": weights, "sizes": torch.Size([2]), "tags": {1}}, tmp_path / "x.pt")
    content = load_pickled(tmp_path / "x.pt")
    assert torch.equal(content["module"]["a"], weights["a"])
    assert torch.equal(content["module"]["p"], weights["p"])
    assert content["sizes"] == (2,)
    assert content["tags"] == {1}


def test_what_deepspeed_adds_is_stood_in_for(tmp_path: Path) -> None:
    others = {
        "args": argparse.Namespace(lr=1.0, names=["a"]),
        "scalar": np.float64(3.0),
        "array": np.arange(3),
        "dtype": torch.float16,
    }
    torch.save({"module": {"w": torch.ones(2)}, **others}, tmp_path / "x.pt")
    content = load_pickled(tmp_path / "x.pt")
    assert torch.equal(content["module"]["w"], torch.ones(2))
    assert all(isinstance(content[name], Inert) for name in ("args", "scalar", "array"))
    assert content["dtype"] is torch.float16


@pytest.mark.parametrize(
    "payload",
    [
        Calls(os.system, "touch {target}"),
        Calls(eval, "open('{target}', 'w')"),
        Calls(exec, "open('{target}', 'w')"),
        Calls(os.mkdir, "{target}"),
        Calls(getattr, 1, "real"),
        Calls(torch.load, "{target}"),
        Calls(pickle.loads, b"x"),
    ],
    ids=["system", "eval", "exec", "mkdir", "getattr", "torch.load", "pickle.loads"],
)
def test_code_is_refused_and_does_not_run(tmp_path: Path, payload: Calls) -> None:
    target = tmp_path / "ran"
    function, arguments = payload.call
    filled = [a.format(target=target) if isinstance(a, str) else a for a in arguments]
    torch.save({"module": {}, "evil": Calls(function, *filled)}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match=r"asks for .*refused, nothing was run"):
        load_pickled(tmp_path / "x.pt")
    assert not target.exists()


def test_inert_objects_cannot_be_used_to_reach_code(tmp_path: Path) -> None:
    """Names below an inert package are not looked up: numpy's own `os` is a stand-in, too."""
    stream = b"\x80\x02cnumpy.os\nsystem\nX\x05\x00\x00\x00touch\x85R."
    torch.save({"module": {}}, tmp_path / "x.pt")
    with zipfile.ZipFile(tmp_path / "x.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, stream if name.endswith("data.pkl") else part)
    assert isinstance(load_pickled(tmp_path / "y.pt"), Inert)


def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such file"):
        load_pickled(tmp_path / "none.pt")
    file = tmp_path / "x.pt"
    torch.save({"module": {"w": torch.zeros(10_000)}}, file)
    whole = file.read_bytes()
    for length in (0, 10, len(whole) // 2, len(whole) - 10):
        file.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match="truncated"):
            load_pickled(file)
    torch.save({"module": {}}, file, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match="zip format"):
        load_pickled(file)
