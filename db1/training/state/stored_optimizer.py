"""An optimizer's state as a checkpoint holds it, by parameter: whoever wrote it, whoever reads it.

    written by                          read through
    engine torch                        `torch.pt`, by order of the parameters
    DeepSpeed at ZeRO stage 0           its model file, by order of the parameters
    DeepSpeed at ZeRO stages 1 to 3     its universal format, a folder a parameter

So a run goes on with another number of processes, another stage or another engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from db1.checkpoint.states import load_state
from db1.errors import CheckpointError

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, kw_only=True)
class ParameterState:
    """Adam's state of one parameter, float32 on the CPU, in the parameter's shape.

    Args:
        master: Its value in float32; None: the weights' file has it.
        exp_avg: First moment.
        exp_avg_sq: Second moment.
    """

    master: Tensor | None
    exp_avg: Tensor
    exp_avg_sq: Tensor


class StoredOptimizer(ABC):
    """See the module's docstring.

    Attributes:
        steps: Optimizer steps taken (skipped batches take none).
    """

    steps: float

    @abstractmethod
    def read(self, name: str, shape: torch.Size) -> ParameterState:
        """The state of one parameter.

        Args:
            name: The parameter's name in the model.
            shape: Its shape.

        Raises:
            CheckpointError: When the checkpoint has no such parameter.
        """


class OrderedOptimizer(StoredOptimizer):
    """The state dict of a torch optimizer, which numbers its parameters.

    Args:
        state: `optimizer.state_dict()`.
        names: Names of the parameters in the optimizer's order.
        masters: Float32 values in the same order, where the weights are narrower.
        origin: For messages.
    """

    def __init__(
        self,
        state: Mapping[str, Any],
        names: Sequence[str],
        masters: Mapping[str, Tensor] | None,
        origin: Path,
    ) -> None:
        self._states: Mapping[int, Any] = state["state"]
        self._numbers = {name: number for number, name in enumerate(names)}
        self._masters = masters or {}
        self._origin = origin
        steps = [float(entry["step"]) for entry in self._states.values()]
        self.steps = max(steps, default=0.0)

    def read(self, name: str, shape: torch.Size) -> ParameterState:
        entry = self._states.get(self._numbers.get(name, -1), {})
        moments = {key: entry[key] if key in entry else torch.zeros(shape) for key in MOMENTS}
        if any(moment.shape != shape for moment in moments.values()):
            raise CheckpointError(
                f"{self._origin}: the optimizer's state of {name} has the shape "
                f"{tuple(moments['exp_avg'].shape)}, expected {tuple(shape)}"
            )
        return ParameterState(master=self._masters.get(name), **moments)


class UniversalOptimizer(StoredOptimizer):
    """DeepSpeed's universal format, read one parameter at a time.

    Args:
        folder: With one folder a parameter.
        steps: Optimizer steps taken.
    """

    def __init__(self, folder: Path, steps: float) -> None:
        self._folder = folder
        self.steps = steps

    def read(self, name: str, shape: torch.Size) -> ParameterState:
        if not (self._folder / name / "fp32.pt").is_file():
            raise CheckpointError(f"{self._folder.parent}: no optimizer state of {name}")
        found = {key: self._tensor(name, key, shape) for key in ("fp32", *MOMENTS)}
        return ParameterState(
            master=found["fp32"],
            **{key: torch.zeros(shape) if found[key] is None else found[key] for key in MOMENTS},
        )

    def _tensor(self, name: str, key: str, shape: torch.Size) -> Tensor | None:
        path = self._folder / name / f"{key}.pt"
        if not path.is_file():  # a parameter that never had a gradient
            return None
        content = load_state(path)
        tensor = content["param"] if isinstance(content, Mapping) else content
        return tensor.detach().float().reshape(shape)


def place_in_adam(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, torch.nn.Parameter],
    stored: StoredOptimizer,
) -> None:
    """Gives a torch AdamW that works on whole parameters its state.

    Args:
        optimizer: Fresh.
        named: The parameters it works on (float32 masters) by name.
        stored: What a checkpoint holds.

    Raises:
        CheckpointError: When the checkpoint lacks a parameter.
    """
    for name, parameter in named.items():
        state = stored.read(name, parameter.shape)
        if state.master is not None:
            parameter.data.copy_(state.master)
        optimizer.state[parameter] = fresh_state(parameter, stored.steps)
        for key in MOMENTS:
            optimizer.state[parameter][key].copy_(getattr(state, key))


def fresh_state(parameter: Tensor, steps: float) -> dict[str, Tensor]:
    """AdamW's first state of a parameter (...,), after `steps` steps: moments (...,) of zeros."""
    moments = {key: torch.zeros_like(parameter) for key in MOMENTS}
    step = torch.tensor(steps, dtype=torch.float32, device=parameter.device)
    return {"step": step, **moments}
