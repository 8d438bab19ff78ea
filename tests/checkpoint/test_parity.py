"""db1 agrees with the recorded tensors of the released implementation, and notices a change.

The recordings in tests/golden come with the project's definition; they are never renewed from db1.
"""

from __future__ import annotations

import json
import re
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from db1.checkpoint.parity import build_recorded, compare
from db1.checkpoint.recording import read_recording
from db1.cli.main import main
from db1.errors import CheckpointError, ConfigError, DataError
from db1.model.batch import Batch, ImageGroup

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = ["released", "deepnorm", "no_memory", "pre_ln_untied"]
TOLERANCE = 1e-4
SEGMENTS = ["memory/segment0", "memory/segment1", "memory/segment2", "memory/final"]


def stored(name: str = "released") -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return dict(arrays)


def with_config(**options: object) -> dict[str, np.ndarray]:
    """The `released` recording's config with other options; ... leaves one out."""
    config = json.loads(stored()["config"].tobytes()) | options
    kept = {name: value for name, value in config.items() if value is not ...}
    return {"config": np.frombuffer(json.dumps(kept).encode(), dtype=np.uint8)}


def changed(tmp_path: Path, changes: dict[str, np.ndarray | None]) -> Path:
    """The `released` recording with arrays replaced, added or (None) left out."""
    arrays = {**stored(), **changes}
    path = tmp_path / "changed.npz"
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_recordings_agree(name: str, dtype: torch.dtype) -> None:
    results = {r.name: r.max_difference for r in compare(GOLDEN / f"{name}.npz", dtype)}
    expected = ["text", "control", "pixels"] + (SEGMENTS if name != "no_memory" else [])
    assert list(results) == expected
    assert max(results.values()) < TOLERANCE
    assert max(value for key, value in results.items() if key != "pixels") < 5e-6


@pytest.mark.parametrize(
    ("weight", "sections"),
    [
        ("word_embedding.weight", {"text", "control", "pixels", *SEGMENTS}),
        ("r_r_bias", {"text", "control", "pixels", *SEGMENTS}),
        ("h.1.dec_attn.r_net.weight", {"text", "control", "pixels", *SEGMENTS[:3]}),
        ("h.0.pos_ff.CoreNet.2.bias", {"text", "control", "pixels", *SEGMENTS}),
        ("rl_local_timestep_embedding.weight", {"control", "pixels"}),
        ("vision_encoder.patch_embeddings.residual_path.5.weight", {"pixels"}),
        ("vision_encoder.row_position_embeddings.weight", {"pixels"}),
    ],
)
def test_a_changed_weight_fails(tmp_path: Path, weight: str, sections: set[str]) -> None:
    key = f"param/{weight}"
    array = stored()[key] * np.float32(1.05)
    results = compare(changed(tmp_path, {key: array}))
    assert {result.name for result in results if result.max_difference > TOLERANCE} == sections


@pytest.mark.parametrize(
    "option", ["pre_lnorm", "use_deepnorm", "same_length", "n_position", "clamp_len"]
)
def test_a_changed_option_fails(tmp_path: Path, option: str) -> None:
    config = json.loads(stored()["config"].tobytes())
    value = 5 if option in ("clamp_len", "n_position") else not config[option]
    results = compare(changed(tmp_path, with_config(**{option: value})))
    assert results[0].name == "text" and results[0].max_difference > TOLERANCE


def test_weight_that_is_no_number_fails(tmp_path: Path) -> None:
    key = "param/h.0.dec_attn.o_net.weight"
    assert compare(changed(tmp_path, {key: stored()[key] * np.nan}))[0].max_difference == float(
        "inf"
    )


def caption(tmp_path: Path, whole: bool) -> Path:
    """A recording with a caption section that db1 itself made, 24 x 16 pixel images."""
    model = build_recorded(read_recording(GOLDEN / "released.npz"))
    rng = np.random.default_rng(0)
    prompt, text = rng.integers(0, 96, (2, 3)), rng.integers(0, 96, (2, 5))
    image = rng.uniform(0, 255, (2, 3, 24, 16)).astype(np.float32)
    ids = np.concatenate([prompt, np.full((2, 6), -1), text], axis=1)
    label = np.concatenate([ids[:, 1:], text[:, :1]], axis=1).clip(0)
    mask = np.zeros_like(label)
    mask[:, -6:-1] = 1
    positions = torch.tensor([[3, 4, 5, 6, 7, 8], [17, 18, 19, 20, 21, 22]])
    pixels = torch.from_numpy(image).permute(0, 2, 3, 1)
    batch = Batch(
        ids=torch.from_numpy(ids),
        local_positions=torch.full((2, 14), -1),
        labels=torch.from_numpy(label),
        loss_mask=torch.from_numpy(mask).bool(),
        images=(ImageGroup(pixels=pixels, positions=positions),),
    )
    with torch.no_grad():
        logits, loss = model.logits(model.hidden(batch)), model(batch).loss
    part = slice(None) if whole else slice(-8, None)
    recorded = {"prompt": prompt, "text": text, "image": image, "label": label[:, part],
                "loss_mask": mask[:, part], "logits": logits[:, part], "loss": loss}  # fmt: skip
    return changed(
        tmp_path, {f"caption/{name}": np.asarray(array) for name, array in recorded.items()}
    )


@pytest.mark.parametrize("whole", [True, False])
def test_caption_section(tmp_path: Path, whole: bool) -> None:
    results = {r.name: r.max_difference for r in compare(caption(tmp_path, whole))}
    assert results["caption"] < TOLERANCE


def test_a_section_of_another_name_is_what_its_arrays_are(tmp_path: Path) -> None:
    """A question has the arrays of a caption."""
    arrays = dict(np.load(caption(tmp_path, whole=True)))
    renamed = {name.replace("caption/", "question/"): array for name, array in arrays.items()}
    np.savez(tmp_path / "renamed.npz", **renamed)
    results = {r.name: r.max_difference for r in compare(tmp_path / "renamed.npz")}
    assert "caption" not in results and results["question"] < TOLERANCE


def text(name: str = "text/ids", **changes: object) -> dict[str, np.ndarray]:
    """An array of the recording with its first number replaced."""
    array = stored()[name].copy()
    array.flat[0] = changes["first"]
    return {name: array}


IDS = np.zeros((2, 48), np.int64)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"config": None}, DataError, "not a recording"),
        ({"config": np.frombuffer(b"{", dtype=np.uint8)}, DataError, "not JSON"),
        ({"config": np.frombuffer(b"[1]", dtype=np.uint8)}, DataError, "not a JSON object"),
        ({"config": np.array("{}")}, DataError, "not JSON bytes"),
        (with_config(n_embed=...), CheckpointError, "lacks ['n_embed']"),
        (with_config(n_head=3), ConfigError, "not a multiple"),
        (with_config(n_layer="two"), DataError, "config: "),
        (with_config(n_layer=3), DataError, "layers.2.attention.qkv.weight"),
        (with_config(untie_r=True), DataError, "do not fit"),
        (with_config(activation_fn="swish"), ConfigError, "geglu"),
        ({"param/r_w_bias": np.zeros((2, 2), np.float32)}, DataError, "do not fit"),
        ({"param/h.0.dec_attn.o_net.weight": None}, DataError, "layers.0.attention.output.weight"),
        ({"param/h.0.extra": np.zeros(1)}, CheckpointError, "h.0.extra"),
        ({"param/lm_head.bias": np.zeros(145)}, CheckpointError, "lm_head.bias"),
        ({"text/ids": None}, DataError, "text lacks the array 'ids'"),
        ({"text/loss": None}, DataError, "text lacks the array 'loss'"),
        ({"control/label": None}, DataError, "control lacks the array 'label'"),
        ({"memory/segment0/ids": None}, DataError, "memory lacks the array 'segment0/ids'"),
        ({"memory/segment1/ids": None}, DataError, "nothing to compare with ['segment1/logits'"),
        ({"memory/segment2/logits": None}, DataError, "lacks the array 'segment2/logits'"),
        ({"memory/final": np.zeros((2, 2, 23, 16))}, DataError, "(2, 2, 23, 16)"),
        ({"text/attention": IDS}, DataError, "nothing to compare with ['attention']"),
        ({"txet/logits": IDS}, DataError, "section txet is unknown"),
        ({"audio/samples": IDS}, DataError, "section audio is unknown"),
        ({"version": np.zeros(1)}, DataError, "'version' belongs to no section"),
        ({"text/ids": np.array([["a"]])}, DataError, "text/ids: got <U1"),
        ({"text/ids": IDS + 0.5}, DataError, "whole numbers"),
        ({"text/ids": IDS[0]}, DataError, "got shape (48,)"),
        (text(first=145), DataError, "got 145, expected 0..144"),
        (text(first=-1), DataError, "got -1, expected 0..144"),
        (text("control/position_id", first=513), DataError, "got 513, expected -1..512"),
        (text("control/label", first=200), DataError, "got 200, expected -1..144"),
        ({"control/loss_mask": IDS[:1]}, DataError, "expected (2, 48)"),
        ({"text/logits": np.zeros((2, 48, 7))}, DataError, "expected (any, any, 145)"),
        ({"text/loss": np.zeros(2)}, DataError, "expected ()"),
        ({"pixels/vision_seq": np.zeros((2, 9, 3, 16, 15))}, DataError, "multiples of the patch"),
        ({"pixels/vision_seq": np.zeros((2, 9, 1, 16, 16))}, DataError, "1 channels, expected 3"),
        ({"pixels/vision_seq": np.zeros((2, 1, 3, 8, 8))}, DataError, "image placeholders"),
    ],
    ids=lambda value: str(value)[:60] if isinstance(value, str) else "",
)
def test_broken_recordings_raise(
    tmp_path: Path, changes: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=re.escape(message)):
        compare(changed(tmp_path, changes))


def test_a_file_without_sections_raises(tmp_path: Path) -> None:
    arrays = {n: a for n, a in stored().items() if n == "config" or n.startswith("param/")}
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="no section"):
        compare(tmp_path / "a.npz")


class Payload:
    """Unpickling it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["config", "param/r_w_bias", "text/ids"])
def test_object_arrays_are_not_unpickled(tmp_path: Path, name: str) -> None:
    array = np.array([Payload(tmp_path / "executed")], dtype=object)
    path = changed(tmp_path, {name: array})
    with pytest.raises(DataError, match="cannot be read"):
        compare(path)
    assert not (tmp_path / "executed").exists()
    np.load(path, allow_pickle=True)[name]
    assert (tmp_path / "executed").exists(), "the payload does nothing, so this test shows nothing"


def truncated(path: Path) -> None:
    content = (GOLDEN / "released.npz").read_bytes()
    path.write_bytes(content[: len(content) // 2])


def damaged(path: Path) -> None:
    """A changed byte inside an array: the archive's checksum tells."""
    content = bytearray((GOLDEN / "released.npz").read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content)


def huge(path: Path) -> None:
    """A header that promises 2 ** 60 numbers."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1152921504606846976,), }"
    header = header.ljust(117) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little")
        archive.writestr("config.npy", start + header)


def no_arrays(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config", "{}")


BAD_FILES = {
    "text": (lambda path: path.write_text("no archive"), "cannot be read"),
    "empty": (lambda path: path.write_bytes(b""), "cannot be read"),
    "folder": (lambda path: path.mkdir(), "cannot be read"),
    "missing": (lambda path: None, "cannot be read"),
    "truncated": (truncated, "cannot be read"),
    "damaged": (damaged, "cannot be read"),
    "huge": (huge, "cannot be read"),
    "one_array": (lambda path: np.save(path.open("wb"), np.zeros(3)), "one array"),
    "no_arrays": (no_arrays, "not JSON bytes"),
    "other_arrays": (lambda path: np.savez(path, a=np.zeros(3)), "no array 'config'"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_other_files_raise(tmp_path: Path, kind: str) -> None:
    make, message = BAD_FILES[kind]
    make(tmp_path / "a.npz")
    with pytest.raises(DataError, match=message):
        compare(tmp_path / "a.npz")


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def parity(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs `db1 parity` in this process: (exit status, stdout, stderr)."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["db1", "parity", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return (int(stopped.value.code or 0), *capfd.readouterr())

    return run


def test_command_prints_every_section_and_passes(parity: Run) -> None:
    status, out, _ = parity(GOLDEN / "released.npz")
    assert status == 0
    rows = re.findall(r"(\S+) +. +(\d\.\d+e-\d\d)", out)
    assert [name for name, _ in rows] == ["text", "control", "pixels", *SEGMENTS]


def test_command_fails_for_a_changed_weight(tmp_path: Path, parity: Run) -> None:
    key = "param/h.0.dec_attn.o_net.weight"
    path = changed(tmp_path, {key: stored()[key] * np.float32(1.01)})
    status, out, _ = parity(path)
    assert status == 1 and "memory/final" in out
    assert parity(path, "--tolerance", "10")[0] == 0


def test_command_names_what_it_cannot_compare(tmp_path: Path, parity: Run) -> None:
    status, _, err = parity(changed(tmp_path, {"audio/samples": np.zeros(3)}))
    assert status == 2
    assert "section audio is unknown" in err and len(err.strip().splitlines()) == 1
