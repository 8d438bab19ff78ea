"""Optimizer and random states of a shared run execute nothing."""

import io
import math
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from attacks import payloads, torch_file

from db1.checkpoint.states import check_states, load_state, of_this_training
from db1.errors import CheckpointError
from db1.seeding import random_states, restore_random_states


def _with_pickle(path: Path, stream: bytes) -> Path:
    """A torch file whose pickle is `stream`."""
    content = io.BytesIO()
    torch.save({}, content)
    with zipfile.ZipFile(content) as source, zipfile.ZipFile(path, "w") as archive:
        for name in source.namelist():
            archive.writestr(name, stream if name.endswith("data.pkl") else source.read(name))
    return path


def test_states_come_back(tmp_path: Path) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    torch.save({"optimizer": optimizer.state_dict()}, tmp_path / "torch.pt")
    state = load_state(tmp_path / "torch.pt")["optimizer"]["state"][0]
    assert torch.equal(state["exp_avg"], optimizer.state[weight]["exp_avg"])
    torch.save(random_states(), tmp_path / "random.pt")
    drawn = torch.rand(4)
    restore_random_states(load_state(tmp_path / "random.pt"))
    assert torch.equal(torch.rand(4), drawn)


def test_what_deepspeed_pickles_passes(tmp_path: Path) -> None:
    tensor = torch.ones(2)
    tensor.ds_shape = 2  # pickled as a tensor with a state, as at ZeRO stage 3
    states = {"param_shapes": [OrderedDict(weight=torch.Size([2]))], "flat": [tensor]}
    torch.save(states, tmp_path / "a.pt")
    scaler = (
        b"\x80\x02cdeepspeed.runtime.fp16.loss_scaler\nLossScaler\n)\x81}X\x01\x00\x00\x00aK\x01sb."
    )
    _with_pickle(tmp_path / "b.pt", scaler)
    check_states(tmp_path)


def test_no_file_of_states_executes(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    for kind, content in payloads(target):
        folder = tmp_path / kind
        folder.mkdir()
        (folder / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(content)
        for read in (check_states, lambda f: load_state(next(f.iterdir()))):
            with pytest.raises(CheckpointError, match="nothing was run|not a file in torch"):
                read(folder)
    assert not target.exists()


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (b"\x80\x02cdeepspeed.launcher.runner\nmain\n)R.", "asks for deepspeed.launcher.runner"),
        (b"\x80\x02cdeepspeed.runtime.fp16.loss_scaler\nos.system\n)R.", "asks for deepspeed"),
        (b"\x80\x02cnumpy\nload\n)R.", "asks for numpy.load"),
        (b"\x80\x02cargparse\nNamespace\n)R.", "asks for argparse.Namespace"),
        (b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\0\0\0aK\x01sb.", "sets the state"),
    ],
)  # fmt: skip
def test_no_other_name_is_looked_up(tmp_path: Path, stream: bytes, said: str) -> None:
    _with_pickle(tmp_path / "x.pt", stream)
    with pytest.raises(CheckpointError, match=said):
        check_states(tmp_path)


def test_a_program_in_place_of_states(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(1, 1)).save(str(tmp_path / "x.pt"))
    with pytest.raises(CheckpointError, match="a TorchScript program"):
        check_states(tmp_path)


@pytest.mark.parametrize("name", ["/etc/x", "../x", "..", "a/b", ""])
def test_names_of_parameters_stay_names(tmp_path: Path, name: str) -> None:
    """DeepSpeed makes a folder of each when it rewrites states for other processes."""
    torch.save({"param_shapes": [OrderedDict({name: torch.Size([1])})]}, tmp_path / "x.pt")
    with pytest.raises(CheckpointError, match="is not the name of a parameter"):
        check_states(tmp_path)


def test_links_are_looked_into(tmp_path: Path) -> None:
    target = tmp_path / "ran"
    (tmp_path / "evil").write_bytes(torch_file(target))
    (tmp_path / "deepspeed").mkdir()
    os.symlink(tmp_path / "evil", tmp_path / "deepspeed" / "x.pt")
    with pytest.raises(CheckpointError, match=r"asks for .*mkdir"):
        check_states(tmp_path / "deepspeed")
    assert not target.exists()


def test_the_attacks_work_where_nothing_restricts_them(tmp_path: Path) -> None:
    found = dict(payloads(tmp_path / "ran"))
    for read in (
        lambda: pickle.loads(found["pickle"]),
        lambda: torch.load(io.BytesIO(found["torch"]), weights_only=False),
        lambda: np.load(io.BytesIO(found["numpy"]), allow_pickle=True),
        lambda: yaml.unsafe_load(found["yaml"]),
    ):
        read()
        assert (tmp_path / "ran").is_dir()
        (tmp_path / "ran").rmdir()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"optimizer": {"state": {0: {"exp_avg": torch.tensor([1.0, math.nan])}}}}, "not finite"),
        ([torch.tensor([math.inf])], "not finite"),
        ({"x": torch.zeros(1).expand(2**40)}, "numbers has fewer"),
    ],
)
def test_states_that_no_training_writes_are_refused(
    tmp_path: Path, content: Any, message: str
) -> None:
    torch.save(content, tmp_path / "torch.pt")
    with pytest.raises(CheckpointError, match=message):
        load_state(tmp_path / "torch.pt")
    with pytest.raises(CheckpointError, match=message):
        check_states(tmp_path)


@pytest.mark.parametrize("content", [[1], {}, {"optimizer": 3}, None])
def test_states_of_another_shape_name_their_folder(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "torch.pt")
    with (
        pytest.raises(CheckpointError, match=f"{tmp_path}: its states are not those"),
        of_this_training(tmp_path),
    ):
        load_state(tmp_path / "torch.pt")["optimizer"]["param_groups"]
