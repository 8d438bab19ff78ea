"""Pictures of MuJoCo simulations, drawn off screen for people who watch an episode."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np

from db1.errors import DataError
from db1.runtime import choose_renderer

FRAME_SIZE = 240
HOW_TO_RENDER = (
    "set MUJOCO_GL=egl or osmesa, and where the library is missing run: "
    "apt-get install -y libegl1 libegl-mesa0 (or libosmesa6)"
)
_TRIAL = (
    "import mujoco; model = mujoco.MjModel.from_xml_string('<mujoco/>'); "
    "data = mujoco.MjData(model); mujoco.mj_forward(model, data); "
    "renderer = mujoco.Renderer(model, 16, 16); renderer.update_scene(data); "
    "renderer.render(); renderer.close()"
)


class MujocoCamera:
    """Looks at one simulation; built with the first frame, since many episodes draw none.

    Args:
        model: `mujoco.MjModel`.
        camera: Name of a camera of the model; where it has none of that name, the free camera.
        view: Attributes of the free camera, as gymnasium's `default_camera_config`.

    Raises:
        DataError: When nothing can be rendered here.
    """

    def __init__(
        self, model: Any, camera: str | None = None, view: Mapping[str, Any] | None = None
    ) -> None:
        import mujoco

        if (why := render_failure()) is not None:
            raise DataError(f"MuJoCo cannot render here ({why}); {HOW_TO_RENDER}")
        size = min(FRAME_SIZE, model.vis.global_.offwidth, model.vis.global_.offheight)
        self._renderer = mujoco.Renderer(model, size, size)
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._renderer.scene.flags[flag] = False  # ten times faster in software
        self._camera = _camera(model, camera, view or {})

    def frame(self, data: Any) -> np.ndarray:
        """The simulation's state `mujoco.MjData` as a picture, uint8 (240, 240, 3)."""
        self._renderer.update_scene(data, self._camera)
        return self._renderer.render().copy()

    def close(self) -> None:
        """Gives the OpenGL context back."""
        self._renderer.close()


def gymnasium_camera(simulator: Any) -> MujocoCamera:
    """The view that gymnasium itself shows of one of its MuJoCo environments."""
    inner = simulation(simulator)
    renderer = getattr(simulator, "mujoco_renderer", None) or inner.mujoco_renderer
    return MujocoCamera(inner.model, "track", renderer.default_cam_config)


def simulation(simulator: Any) -> Any:
    """The environment that has `model` and `data`: the mazes keep it inside."""
    for name in ("point_env", "ant_env"):
        simulator = getattr(simulator, name, simulator)
    return simulator


@cache
def render_failure() -> str | None:
    """Returns why MuJoCo cannot render here; None when a frame comes out.

    Tried in another process, since a broken OpenGL can take its process along at exit.
    """
    choose_renderer()
    done = subprocess.run([sys.executable, "-c", _TRIAL], capture_output=True, text=True)
    if done.returncode == 0:
        return None
    errors = [line for line in done.stderr.splitlines() if "Error: " in line]
    return errors[-1] if errors else f"exit status {done.returncode}"


def _camera(model: Any, name: str | None, view: Mapping[str, Any]) -> Any:
    """A fixed camera of the model by name, or the free one."""
    import mujoco

    camera = mujoco.MjvCamera()
    mujoco.mjv_defaultFreeCamera(model, camera)
    number = -1
    if name is not None:
        number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
    if number >= 0:
        camera.type, camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
        return camera
    for key, value in view.items():
        if isinstance(value, np.ndarray):
            getattr(camera, key)[:] = value
        else:
            setattr(camera, key, value)
    return camera
