"""Demands of a layer on a device, counted without one: operations, bytes, host waits, graphs.

The model runs on the meta device, where tensors have shapes and no values, on the path that a GPU
takes without its fused kernels. Operations that only give another view of their input are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from db1.model.batch import Batch
from db1.model.config import ModelConfig
from db1.model.transformer_xl import TransformerXL
from db1.sequence.segment import NO_LOCAL_POSITION
from db1.training.engines.compiling import compile_layers

WAITING = ("_local_scalar_dense", "nonzero", "is_nonzero", "masked_select")
"""Operations whose result the host has to see, so that it waits for the device."""
_VOCABULARY_SIZE = 64


class Counts(TorchDispatchMode):
    """Counts operations, the bytes that they read and write, and host waits.

    Attributes:
        launches: Operations that compute something.
        num_bytes: Of their arguments and results.
        waits: Operations for which the host waits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.launches = self.num_bytes = self.waits = 0

    def __torch_dispatch__(
        self,
        function: Any,
        types: Any,
        arguments: Sequence[Any] = (),
        options: Mapping[str, Any] | None = None,
    ) -> Any:
        name = function.overloadpacket.__name__
        if name.startswith(WAITING):
            self.waits += 1
        result = function(*arguments, **(options or {}))
        tensors = _tensors(arguments)
        made = _tensors(result if isinstance(result, (tuple, list)) else (result,))
        is_view = any(each._base is not None for each in made) or function.is_view
        if made and not is_view and not name.startswith("empty"):
            self.launches += 1
            self.num_bytes += sum(each.numel() * each.itemsize for each in (*tensors, *made))
        return result


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat: list[Tensor] = []
    for value in values:
        if isinstance(value, Tensor):
            flat.append(value)
        elif isinstance(value, (tuple, list)):
            flat += _tensors(value)
    return flat


def counts_of_layer(config: ModelConfig, batch_size: int, length: int) -> dict[str, float]:
    """Operations and bytes of one layer, forward and backward, and host waits of a whole step.

    Args:
        config: Of the model; its layers are alike.
        batch_size: Sequences.
        length: Tokens of each.
    """

    def counted(num_layers: int) -> Counts:
        model = _meta_model(config, num_layers)
        batch = _batch(batch_size, length)
        with Counts() as counts:
            model(batch).loss_sum.backward()
        return counts

    two, three = counted(2), counted(3)
    return {
        "operations a layer, uncompiled": three.launches - two.launches,
        "MB that a layer reads and writes": (three.num_bytes - two.num_bytes) / 1e6,
        "host waits a micro-batch": three.waits,
    }


def graph_breaks(config: ModelConfig, batch_size: int, length: int) -> dict[str, int]:
    """Breaks in the graph of the layers, and graphs traced again for other batches of the shape.

    Traced only, nothing is compiled.

    Args:
        config: Of the model.
        batch_size: Sequences.
        length: Tokens of each.
    """
    import torch._dynamo as dynamo
    from torch._dynamo.utils import counters

    model = _meta_model(config, config.num_layers)
    dynamo.reset()
    counters.clear()
    compile_layers(model, "meta", backend="eager")
    graphs = []
    for targets in (length // 2, length // 2, length // 3, length // 5):
        model(_batch(batch_size, length, targets)).loss_sum.backward()
        graphs.append(counters["stats"]["unique_graphs"])
    breaks = sum(counters["graph_break"].values())
    dynamo.reset()
    again = graphs[-1] - graphs[1]
    return {"graph breaks": breaks, "graphs": graphs[1], "graphs traced again": again}


def _meta_model(config: ModelConfig, num_layers: int) -> TransformerXL:
    with torch.device("meta"):
        return TransformerXL(replace(config, num_layers=num_layers), _VOCABULARY_SIZE).train()


def _batch(batch_size: int, length: int, targets: int | None = None) -> Batch:
    """Shapes alone; each sequence has so many targets, by default half its tokens."""
    shape = (batch_size, length)
    count = batch_size * (length // 2 if targets is None else targets)
    ids_BT = torch.zeros(shape, dtype=torch.int64, device="meta")
    return Batch(
        ids=ids_BT,
        local_positions=torch.full_like(ids_BT, NO_LOCAL_POSITION),
        labels=ids_BT,
        loss_mask=torch.zeros(shape, dtype=torch.bool, device="meta"),
        target_places=torch.zeros(count, dtype=torch.int64, device="meta"),
    )
