"""The demo draws MuJoCo's tasks without a display."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def test_a_renderer_is_chosen_before_anything_is_loaded(
    db1, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SDL_VIDEODRIVER", "x11")  # set by somebody: stays
    monkeypatch.setattr("db1.runtime.choose_renderer", lambda: os.environ.update(MUJOCO_GL="egl"))
    status, _, err = db1("demo", tmp_path)
    assert status == 2 and "no model here" in err
    assert os.environ["MUJOCO_GL"] == "egl" and os.environ["SDL_VIDEODRIVER"] == "x11"
