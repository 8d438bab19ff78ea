"""Positions of bodies, geoms and sites for many joint positions at once, as MuJoCo computes them.

`mujoco.rollout` returns joint positions only; asking MuJoCo for the rest would take one call a
state. Here the frames of the bodies that somebody asks for are computed in NumPy for all states.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_FREE, _BALL, _SLIDE = 0, 1, 2


class Kinematics:
    """Frames of a batch of states; each body is computed once, when it is first asked for.

    Args:
        model: The MuJoCo model; positions of its targets are read from it.
        qpos: float64 (..., nq).
    """

    def __init__(self, model: Any, qpos: np.ndarray) -> None:
        self._model = model
        self._qpos = qpos
        self._frames = {0: (np.zeros(3), np.eye(3))}

    def body(self, name: str) -> np.ndarray:
        """Returns the place of the body's frame, (..., 3)."""
        return self._frame(self._model.body(name).id)[0]

    def body_rotation(self, name: str) -> np.ndarray:
        """Returns the body's axes as columns, (..., 3, 3)."""
        return self._frame(self._model.body(name).id)[1]

    def body_centre(self, body_id: int) -> np.ndarray:
        """Returns the centre of mass of one body, (..., 3)."""
        return self._inside(body_id, self._model.body_ipos[body_id])

    def geom(self, name: str) -> np.ndarray:
        """Returns the centre of a geom, (..., 3)."""
        geom = self._model.geom(name)
        return self._inside(int(geom.bodyid[0]), geom.pos)

    def site(self, name: str) -> np.ndarray:
        """Returns the place of a site, (..., 3)."""
        site = self._model.site(name)
        return self._inside(int(site.bodyid[0]), site.pos)

    def _inside(self, body_id: int, place: np.ndarray) -> np.ndarray:
        position, rotation = self._frame(body_id)
        return position + rotation @ place

    def _frame(self, body_id: int) -> tuple[np.ndarray, np.ndarray]:
        if body_id not in self._frames:
            self._frames[body_id] = self._compute(body_id)
        return self._frames[body_id]

    def _compute(self, body_id: int) -> tuple[np.ndarray, np.ndarray]:
        model = self._model
        position, rotation = self._frame(int(model.body_parentid[body_id]))
        position = position + rotation @ model.body_pos[body_id]
        rotation = rotation @ rotation_of(model.body_quat[body_id])
        first = int(model.body_jntadr[body_id])
        for joint in range(first, first + int(model.body_jntnum[body_id])):
            position, rotation = self._move(joint, position, rotation)
        return position, rotation

    def _move(
        self, joint: int, position: np.ndarray, rotation: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        model, kind = self._model, self._model.jnt_type[joint]
        address = int(model.jnt_qposadr[joint])
        if kind == _FREE:
            q = self._qpos[..., address : address + 7]
            return q[..., :3], rotation_of(q[..., 3:])
        axis, pivot = model.jnt_axis[joint], model.jnt_pos[joint]
        if kind == _BALL:
            turn = rotation_of(self._qpos[..., address : address + 4])
        else:
            value = self._qpos[..., address] - model.qpos0[address]
            if kind == _SLIDE:
                return position + (rotation @ axis) * value[..., None], rotation
            turn = _rotation_about(axis, value)
        anchor = position + rotation @ pivot
        rotation = rotation @ turn
        return anchor - rotation @ pivot, rotation


def rotation_of(quaternion: np.ndarray) -> np.ndarray:
    """Returns rotation matrices (..., 3, 3) of quaternions (..., 4), real part first."""
    q = quaternion / np.linalg.norm(quaternion, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(q, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def _rotation_about(axis: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Returns rotation matrices (..., 3, 3) about a unit axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sin, cos = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + sin * cross + (1.0 - cos) * (cross @ cross)
