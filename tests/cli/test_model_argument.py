"""The options of the weights that verbs load."""

from __future__ import annotations

from pathlib import Path

import pytest

from db1.cli.model_argument import Weights
from db1.errors import ConfigError


def test_a_tag_of_the_published_checkpoint_is_a_folder_of_it(tmp_path: Path) -> None:
    for tag in ("early", "late"):
        (tmp_path / tag).mkdir()
        (tmp_path / tag / "mp_rank_00_model_states.pt").touch()
    with pytest.raises(
        ConfigError, match=r"no checkpoint of tag 'mid', there are \['early', 'late'\]"
    ):
        Weights(checkpoint="mid", device="cpu").load(tmp_path)


def test_the_device_is_checked_before_anything_is_read() -> None:
    with pytest.raises(ConfigError, match="--device nowhere"):
        Weights(device="nowhere").load(Path("no such run"))
