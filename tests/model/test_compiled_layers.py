"""torch.compile sees each decoder layer as one graph, and all layers but the last as the same one.

The last layer runs at the targets only in training: that is the second graph.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch._dynamo.utils import counters

OPTIONS = [
    {},
    {"attention": "sdpa"},
    {"attention": "reference"},
    {"stochastic_depth": 0.1, "stochastic_depth_rule": "linear"},
    {"activation_checkpointing": True},
    {"share_biases": False},
    {"position_encoding": "rotary"},
    {"position_encoding": "alibi", "normalization": "pre"},
    {"position_encoding": "none", "same_length": False},
    {"attention_dropout": 0.1, "residual_dropout": 0.1},
]


@pytest.fixture(autouse=True)
def _nothing_compiled() -> None:
    torch._dynamo.reset()
    counters.clear()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_graph_break_and_no_recompilation(
    make_model: Callable, make_batch: Callable, options: dict
) -> None:
    model = make_model(num_layers=10, **options).float().train()
    graphs = []

    def backend(graph: torch.fx.GraphModule, inputs: list) -> Callable:
        graphs.append(graph)
        return graph.forward

    for layer in model.layers:
        layer.compile(backend=backend)
    for _ in range(2):
        model(make_batch()).loss.backward()
    assert not counters["graph_break"]
    assert len(graphs) == 2


def test_compiled_layers_give_the_same_gradients(
    make_model: Callable, make_batch: Callable
) -> None:
    """Through the traced forward and backward, where attention is one operation in each."""
    results = []
    for compiled in (False, True):
        model = make_model(num_layers=3).train()
        if compiled:
            for layer in model.layers:
                layer.compile(backend="aot_eager")
        loss = model(make_batch()).loss
        results.append([loss, *torch.autograd.grad(loss, list(model.layers.parameters()))])
    for got, expected in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(got, expected, atol=1e-11, rtol=0)
