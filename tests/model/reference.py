"""The released DB1 model written out in NumPy float64, from its definition.

Independent of `db1.model`: loops over rows, heads and queries, released names of weights and
options. `record` draws weights and inputs and writes what this model says as a recording (.npz).

    text/       ids
    control/    tensor_seq, position_id, label, loss_mask
    pixels/     the same with vision_seq (B, images, C, H, W)
    caption/    prompt, image, text, label, loss_mask
    memory/     segment<N>/ids, final
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray
SEPARATOR_IDS = 1
LOCAL_POSITIONS = 513
CONFIG: dict[str, Any] = {
    "n_embed": 16,
    "n_position": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_inner": None,
    "pre_lnorm": False,
    "mem_len": 8,
    "same_length": True,
    "untie_r": False,
    "text_vocab_size": 30,
    "num_discrete_values": 10,
    "num_continuous_bin": 12,
    "overlap_with_text": True,
    "embd_pdrop": 0.0,
    "drop": 0.0,
    "dropattn": 0.0,
    "activation_fn": "geglu",
    "layer_norm_epsilon": 1e-5,
    "share_input_output_embedding": True,
    "use_deepnorm": False,
    "fp16": False,
    "vision_patch_size": 4,
    "vision_num_input_channels": 3,
    "vision_position_vocab_size": 16,
    "vision_hidden_dropout_prob": 0.0,
}

_erf = np.vectorize(math.erf)


def gelu(x: Array) -> Array:
    """x times the normal distribution function, exactly."""
    return x * 0.5 * (1.0 + _erf(x / math.sqrt(2.0)))


def geglu(x: Array) -> Array:
    half = x.shape[-1] // 2
    return x[..., :half] * gelu(x[..., half:])


ACTIVATIONS = {"gelu": gelu, "geglu": geglu, "relu": lambda x: np.maximum(x, 0.0)}


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return e / e.sum()


def convolution(x: Array, weight: Array, bias: Array) -> Array:
    """3 x 3, one pixel of zeros around: (N, C, s, s) -> (N, D, s, s)."""
    side = x.shape[-1]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), side, side)) + bias[:, None, None]
    for dy in range(3):
        for dx in range(3):
            window = padded[:, :, dy : dy + side, dx : dx + side]
            out += np.einsum("ncyx,dc->ndyx", window, weight[:, :, dy, dx], optimize=True)
    return out


def group_norm(x: Array, weight: Array, bias: Array) -> Array:
    """32 groups of channels, epsilon 1e-5."""
    grouped = x.reshape(len(x), 32, -1)
    mean, variance = grouped.mean(-1, keepdims=True), grouped.var(-1, keepdims=True)
    normal = ((grouped - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return normal * weight[:, None, None] + bias[:, None, None]


class Reference:
    """The model.

    Args:
        config: Released option names.
        weights: float64 by released name.
    """

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Array]) -> None:
        self.config = config
        self.weights = weights

    def embed_text(self, ids: Array) -> Array:
        return self.weights["word_embedding.weight"][ids]

    def embed_control(self, ids: Array, positions: Array, vision: Array | None) -> Array:
        """Patches stand where ids are -1, in order; each token has its local position."""
        table = self.weights["word_embedding.weight"]
        x = np.zeros((*ids.shape, table.shape[1]))
        for row in range(len(ids)):
            if vision is not None:
                patches = np.concatenate([self.embed_image(image) for image in vision[row]])
            taken = 0
            for t, token in enumerate(ids[row]):
                if token >= 0:
                    x[row, t] = table[token]
                else:
                    x[row, t] = patches[taken]
                    taken += 1
        return x + self.weights["rl_local_timestep_embedding.weight"][positions]

    def embed_caption(self, prompt: Array, image: Array, text: Array) -> Array:
        images = np.stack([self.embed_image(pixels) for pixels in image])
        return np.concatenate([self.embed_text(prompt), images, self.embed_text(text)], axis=1)

    def embed_image(self, pixels: Array) -> Array:
        """(C, H, W) -> (patches, D), row by row."""
        side = self.config["vision_patch_size"]
        _, height, width = pixels.shape
        rows, columns = height // side, width // side
        cut = [
            pixels[:, r * side : (r + 1) * side, c * side : (c + 1) * side].astype(np.float64)
            for r in range(rows)
            for c in range(columns)
        ]
        embedded = self._encode_patches(np.stack(cut))
        for place in range(rows * columns):
            row, column = divmod(place, columns)
            embedded[place] += self._image_position("row", row, rows)
            embedded[place] += self._image_position("col", column, columns)
        return embedded

    def _encode_patches(self, patches: Array) -> Array:
        side = patches.shape[-1]
        mean = patches.mean((-2, -1), keepdims=True)
        deviation = patches.std((-2, -1), keepdims=True, ddof=1)
        x = (patches - mean) / (deviation + 1e-6) / math.sqrt(side)

        def weights(name: str) -> tuple[Array, Array]:
            start = f"vision_encoder.patch_embeddings.{name}"
            return self.weights[f"{start}.weight"], self.weights[f"{start}.bias"]

        x = convolution(x, *weights("conv1"))
        y = gelu(group_norm(x, *weights("residual_path.0")))
        y = convolution(y, *weights("residual_path.2"))
        y = gelu(group_norm(y, *weights("residual_path.3")))
        x = x + convolution(y, *weights("residual_path.5"))
        weight, bias = weights("projection")
        return np.einsum("ncyx,dcyx->nd", x, weight, optimize=True) + bias

    def _image_position(self, axis: str, index: int, count: int) -> Array:
        table = self.weights[f"vision_encoder.{axis}_position_embeddings.weight"]
        low, high = len(table) * index // count, len(table) * (index + 1) // count
        return table[(low + high) // 2]

    def empty_memory(self, batch_size: int) -> list[Array]:
        shape = (batch_size, self.config["mem_len"], self.config["n_embed"])
        return [np.zeros(shape) for _ in range(self.config["n_layer"])]

    def run(self, x: Array, memory: list[Array] | None = None) -> tuple[Array, list[Array]]:
        """Hidden states (B, T, D), and each layer's last `mem_len` inputs."""
        kept = []
        for layer in range(self.config["n_layer"]):
            past = np.zeros((len(x), 0, x.shape[2])) if memory is None else memory[layer]
            both = np.concatenate([past, x], axis=1)
            kept.append(both[:, max(0, both.shape[1] - (self.config["mem_len"] or 0)) :])
            x = self._layer(layer, both, x.shape[1])
        return x, kept

    def _layer(self, layer: int, both: Array, num_queries: int) -> Array:
        x = both[:, both.shape[1] - num_queries :]
        start = f"h.{layer}."
        expand = self.weights[start + "pos_ff.CoreNet.0.weight"]
        contract = self.weights[start + "pos_ff.CoreNet.2.weight"]

        def feed_forward(y: Array) -> Array:
            inner = y @ expand.T + self.weights[start + "pos_ff.CoreNet.0.bias"]
            inner = ACTIVATIONS[self.config["activation_fn"]](inner)
            return inner @ contract.T + self.weights[start + "pos_ff.CoreNet.2.bias"]

        first, second = start + "dec_attn.layer_norm", start + "pos_ff.layer_norm"
        if self.config["pre_lnorm"]:
            x = x + self._attention(layer, self._norm(first, both), num_queries)
            return x + feed_forward(self._norm(second, x))
        factor = (2 * self.config["n_layer"]) ** 0.25 if self.config["use_deepnorm"] else 1.0
        x = self._norm(first, factor * x + self._attention(layer, both, num_queries))
        return self._norm(second, factor * x + feed_forward(x))

    def _norm(self, name: str, x: Array) -> Array:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        normal = (x - mean) / np.sqrt(variance + self.config["layer_norm_epsilon"])
        return normal * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def _attention(self, layer: int, both: Array, num_queries: int) -> Array:
        """Query by query over the keys it sees."""
        start = f"h.{layer}.dec_attn."
        heads, width = self.config["n_head"], self.config["n_embed"]
        head_dim = width // heads
        num_keys = both.shape[1]
        owner = start if self.config["untie_r"] else ""
        u, v = self.weights[owner + "r_w_bias"], self.weights[owner + "r_r_bias"]
        q_net, k_net, v_net = np.split(self.weights[start + "qkv_net.weight"], 3)
        distances = [self._distance_vector(d) for d in range(num_keys)]
        r = np.stack(distances) @ self.weights[start + "r_net.weight"].T
        mixed = np.zeros((len(both), num_queries, width))
        for row in range(len(both)):
            queries = both[row, num_keys - num_queries :] @ q_net.T
            keys, values = both[row] @ k_net.T, both[row] @ v_net.T
            for head in range(heads):
                part = slice(head * head_dim, (head + 1) * head_dim)
                for i in range(num_queries):
                    place = num_keys - num_queries + i
                    seen = self._seen(place)
                    q = queries[i, part]
                    scores = keys[seen, part] @ (q + u[head])
                    scores = scores + r[[place - j for j in seen]][:, part] @ (q + v[head])
                    weights = softmax(scores / math.sqrt(head_dim))
                    mixed[row, i, part] = weights @ values[seen, part]
        return mixed @ self.weights[start + "o_net.weight"].T

    def _seen(self, place: int) -> list[int]:
        """Keys that the query at `place` sees."""
        first = max(0, place - self.config["mem_len"] + 1) if self.config["same_length"] else 0
        return list(range(first, place + 1))

    def _distance_vector(self, distance: int) -> Array:
        """The released model clamps distances at its sequence length."""
        width = self.config["n_embed"]
        distance = min(distance, self.config["n_position"])
        angles = distance * 10_000.0 ** (-2.0 * np.arange(width // 2) / width)
        return np.concatenate([np.sin(angles), np.cos(angles)])

    def logits(self, hidden: Array) -> Array:
        shared = self.config["share_input_output_embedding"]
        return hidden @ self.weights["word_embedding.weight" if shared else "lm_head.weight"].T

    def loss(self, logits: Array, label: Array, mask: Array) -> Array:
        """Sum of masked cross-entropies over the sum of the mask."""
        top = logits.max(-1, keepdims=True)
        total = np.log(np.exp(logits - top).sum(-1)) + top[..., 0]
        chosen = np.take_along_axis(logits, label[..., None], -1)[..., 0]
        return np.asarray(((total - chosen) * mask).sum() / mask.sum())


def vocabulary_size(config: Mapping[str, Any]) -> int:
    discrete = 0 if config["overlap_with_text"] else config["num_discrete_values"]
    return config["text_vocab_size"] + discrete + config["num_continuous_bin"] + SEPARATOR_IDS


def draw_weights(config: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Array]:
    """float32 weights under the names of the released state dict."""
    width, heads = config["n_embed"], config["n_head"]
    inner = config["n_inner"] or 4 * width
    halved = inner // 2 if config["activation_fn"] == "geglu" else inner
    side, channels = config["vision_patch_size"], config["vision_num_input_channels"]
    shapes: dict[str, tuple[int, ...]] = {
        "word_embedding.weight": (vocabulary_size(config), width),
        "rl_local_timestep_embedding.weight": (LOCAL_POSITIONS, width),
    }
    if not config["share_input_output_embedding"]:
        shapes["lm_head.weight"] = (vocabulary_size(config), width)
    for axis in ("row", "col"):
        shape = (config["vision_position_vocab_size"], width)
        shapes[f"vision_encoder.{axis}_position_embeddings.weight"] = shape
    patches = "vision_encoder.patch_embeddings."
    for name, shape in {
        "conv1": (64, channels, 3, 3),
        "residual_path.0": (64,),
        "residual_path.2": (64, 64, 3, 3),
        "residual_path.3": (64,),
        "residual_path.5": (64, 64, 3, 3),
        "projection": (width, 64, side, side),
    }.items():
        shapes[f"{patches}{name}.weight"], shapes[f"{patches}{name}.bias"] = shape, shape[:1]
    for layer in range(config["n_layer"]):
        start = f"h.{layer}."
        shapes[start + "dec_attn.qkv_net.weight"] = (3 * width, width)
        shapes[start + "dec_attn.o_net.weight"] = (width, width)
        shapes[start + "dec_attn.r_net.weight"] = (width, width)
        shapes[start + "pos_ff.CoreNet.0.weight"] = (inner, width)
        shapes[start + "pos_ff.CoreNet.0.bias"] = (inner,)
        shapes[start + "pos_ff.CoreNet.2.weight"] = (width, halved)
        shapes[start + "pos_ff.CoreNet.2.bias"] = (width,)
        for norm in ("dec_attn.layer_norm", "pos_ff.layer_norm"):
            shapes[f"{start}{norm}.weight"] = shapes[f"{start}{norm}.bias"] = (width,)
    owners = [f"h.{layer}.dec_attn." for layer in range(config["n_layer"])]
    for owner in owners if config["untie_r"] else [""]:
        shapes[owner + "r_w_bias"] = shapes[owner + "r_r_bias"] = (heads, width // heads)
    weights = {name: _draw(name, shape, rng) for name, shape in shapes.items()}
    if not config["untie_r"]:
        for owner in owners:
            weights.update({owner + name: weights[name] for name in ("r_w_bias", "r_r_bias")})
    inv_freq = 1.0 / 10_000.0 ** (np.arange(0, width, 2) / width)
    return weights | {"pos_emb.inv_freq": inv_freq.astype(np.float32)}


def _draw(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 16
    scale = 1.0 if "embedding" in name and len(shape) == 2 else 1.4 * fan_in**-0.5
    centre = 1.0 if len(shape) == 1 and name.endswith("weight") else 0.0
    return (centre + scale * rng.standard_normal(shape)).astype(np.float32)


def record(
    path: Path,
    options: Mapping[str, Any] | None = None,
    image: tuple[int, int] | None = None,
    segments: Sequence[int] = (8, 1, 5),
    seed: int = 0,
) -> Path:
    """Writes a recording.

    Args:
        path: The .npz file.
        options: What differs from `CONFIG`.
        image: Height and width; None: no `pixels` and `caption` sections.
        segments: Lengths of the memory's segments; none are recorded without a memory.
        seed: Of weights and inputs.
    """
    config = {**CONFIG, **(options or {})}
    rng = np.random.default_rng(seed)
    weights = draw_weights(config, rng)
    model = Reference(config, {name: w.astype(np.float64) for name, w in weights.items()})
    arrays = {f"param/{name}": weight for name, weight in weights.items()}
    arrays["config"] = np.frombuffer(json.dumps(config).encode(), dtype=np.uint8)
    arrays |= _text(model, rng) | _control(model, rng)
    if image is not None:
        arrays |= _pixels(model, rng, image) | _caption(model, rng, image)
    if config["mem_len"]:
        arrays |= _memory(model, rng, segments)
    np.savez(path, **arrays)
    return path


def _ids(model: Reference, rng: np.random.Generator, *shape: int) -> Array:
    return rng.integers(0, vocabulary_size(model.config), shape)


def _outputs(section: str, model: Reference, x: Array, label: Array, mask: Array) -> dict:
    logits = model.logits(model.run(x)[0])
    return {f"{section}/logits": logits, f"{section}/loss": model.loss(logits, label, mask)}


def _text(model: Reference, rng: np.random.Generator) -> dict[str, Array]:
    ids = _ids(model, rng, 2, 14)
    label = np.roll(ids, -1, axis=1)
    x = model.embed_text(ids)
    return {"text/ids": ids} | _outputs("text", model, x, label, np.ones_like(ids))


def _steps(
    model: Reference, rng: np.random.Generator, ids: Array, section: str
) -> dict[str, Array]:
    """Labels, mask and local positions of behaviour."""
    return {
        f"{section}/tensor_seq": ids,
        f"{section}/label": np.roll(ids, -1, axis=1).clip(0),
        f"{section}/position_id": rng.integers(0, LOCAL_POSITIONS, ids.shape),
        f"{section}/loss_mask": np.maximum(
            rng.integers(0, 2, ids.shape), np.eye(*ids.shape, dtype=int)
        ),
    }


def _control(model: Reference, rng: np.random.Generator) -> dict[str, Array]:
    arrays = _steps(model, rng, _ids(model, rng, 3, 12), "control")
    x = model.embed_control(arrays["control/tensor_seq"], arrays["control/position_id"], None)
    label, mask = arrays["control/label"], arrays["control/loss_mask"]
    return arrays | _outputs("control", model, x, label, mask)


def _image(model: Reference, rng: np.random.Generator, *shape: int) -> Array:
    channels = model.config["vision_num_input_channels"]
    return rng.integers(0, 256, (*shape[:-2], channels, *shape[-2:])).astype(np.float32)


def _pixels(model: Reference, rng: np.random.Generator, image: tuple[int, int]) -> dict[str, Array]:
    """Two images a row; the second row's last patches have no place left in the sequence."""
    vision = _image(model, rng, 2, 2, *image)
    patches = image[0] * image[1] // model.config["vision_patch_size"] ** 2
    ids = _ids(model, rng, 2, 2 * patches + 5)
    ids[:, 1 : 1 + patches] = -1
    ids[:, 3 + patches : 2 + 2 * patches] = -1
    arrays = _steps(model, rng, ids, "pixels") | {"pixels/vision_seq": vision}
    x = model.embed_control(ids, arrays["pixels/position_id"], vision)
    label, mask = arrays["pixels/label"], arrays["pixels/loss_mask"]
    return arrays | _outputs("pixels", model, x, label, mask)


def _caption(
    model: Reference, rng: np.random.Generator, image: tuple[int, int]
) -> dict[str, Array]:
    prompt, text = _ids(model, rng, 2, 4), _ids(model, rng, 2, 6)
    pixels = _image(model, rng, 2, *image)
    x = model.embed_caption(prompt, pixels, text)
    label, mask = _ids(model, rng, *x.shape[:2]), np.zeros(x.shape[:2], dtype=np.int64)
    mask[:, -7:-1] = 1
    inputs = {"prompt": prompt, "image": pixels, "text": text, "label": label, "loss_mask": mask}
    named = {f"caption/{name}": array for name, array in inputs.items()}
    return named | _outputs("caption", model, x, label, mask)


def _memory(
    model: Reference, rng: np.random.Generator, segments: Sequence[int]
) -> dict[str, Array]:
    memory, arrays = model.empty_memory(2), {}
    for number, length in enumerate(segments):
        ids = _ids(model, rng, 2, length)
        hidden, memory = model.run(model.embed_text(ids), memory)
        arrays[f"memory/segment{number}/ids"] = ids
        arrays[f"memory/segment{number}/logits"] = model.logits(hidden)
    return arrays | {"memory/final": np.stack(memory)}
