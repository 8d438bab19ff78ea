"""The published layout, run folders and safetensors folders: there and back, and what is wrong."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from toy_checkpoint import CONFIG, TEXT_SIZE, draw

from db1.checkpoint.bundle import meta_model, read_bundle
from db1.checkpoint.convert import convert
from db1.checkpoint.released import config_from_released, released_from_state_dict
from db1.checkpoint.released_folder import STATES_FILE, find_states, read_released, write_released
from db1.config import load_yaml, save_yaml, to_dict
from db1.errors import CheckpointError, ConfigError, DataError
from db1.inference.load import load_agent_parts, read_run
from db1.model.batch import Batch
from db1.model.config import ModelConfig
from db1.tokens.text import TextTokenizer
from db1.tokens.vocabulary import Vocabulary, VocabularyConfig

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    write_released(folder, "tag_870", draw(), CONFIG)
    return folder


def rewrite(folder: Path, change: Callable[[OrderedDict], object]) -> None:
    """Changes the weights of a published folder by their released names."""
    file = find_states(folder)
    weights = OrderedDict((n, t.clone()) for n, t in read_released(file)[0].items())
    change(weights)
    torch.save({"module": weights}, file)


def test_there_and_back_is_exact(published: Path, tmp_path: Path) -> None:
    convert(str(published), str(tmp_path / "run"))
    convert(str(tmp_path / "run"), str(tmp_path / "folder"))
    convert(str(tmp_path / "folder"), str(tmp_path / "copy"))
    convert(str(tmp_path / "copy"), str(tmp_path / "again"), to="released")
    first = read_released(find_states(published))[0]
    last = read_released(find_states(tmp_path / "again"))[0]
    assert first.keys() == last.keys()
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert all(
        t.dtype == torch.float16 for t in load_file(tmp_path / "folder/model.safetensors").values()
    )
    assert to_dict(read_bundle(tmp_path / "copy").model_config) == to_dict(CONFIG)


def test_the_12b_layout_has_345_entries() -> None:
    config = ModelConfig(memory_start="zeros", clamp_length=1024)
    shapes = meta_model(config, Vocabulary(VocabularyConfig(discrete_ids="shared_with_text")))
    names = released_from_state_dict(shapes.state_dict(), config)
    assert len(names) == 345
    assert names["word_embedding.weight"].shape == (33_025, 2_048)
    assert sum(name.startswith("ic_encoder.") for name in names) == 14


@pytest.mark.parametrize("name", ["released", "pre_ln_untied", "deepnorm"])
def test_converted_weights_give_the_recorded_logits(name: str, tmp_path: Path) -> None:
    """A recording's weights, saved as published, converted and loaded, say what was recorded."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        options = json.loads(stored["config"].tobytes())
        model, vocabulary = config_from_released(options)
        named = {
            key.removeprefix("param/"): torch.from_numpy(stored[key])
            for key in stored.files
            if key.startswith("param/")
        }
        ids, logits = torch.from_numpy(stored["text/ids"]), torch.from_numpy(stored["text/logits"])
    shapes = meta_model(model, Vocabulary(vocabulary)).state_dict()
    wanted = released_from_state_dict(shapes, model)
    repeated = {
        n: named.get(n, named.get(n.replace("ic_encoder", "vision_encoder"))) for n in wanted
    }
    folder = tmp_path / "published" / "tag"
    folder.mkdir(parents=True)
    torch.save({"module": repeated}, folder / STATES_FILE)
    (tmp_path / "model.yaml").write_text(
        save_yaml({"model": to_dict(model), "vocabulary": to_dict(vocabulary)})
    )
    convert(str(tmp_path / "published"), str(tmp_path / "run"), config=tmp_path / "model.yaml")
    loaded = load_agent_parts(tmp_path / "run", device="cpu").model
    batch = Batch(
        ids=ids.long(), local_positions=torch.full_like(ids.long(), -1), labels=ids, loss_mask=ids
    )
    with torch.no_grad():
        ours = loaded.logits(loaded.hidden(batch))
    assert (ours - logits).abs().max() < 1e-4


def test_tokenizers_are_picked_up(published: Path, tmp_path: Path) -> None:
    tokenizer = TextTokenizer.train(["some words to learn from, and some more"] * 5, TEXT_SIZE)
    (published / "tokenizer").mkdir()
    tokenizer.save_gpt2(published / "tokenizer")
    assert sorted(p.name for p in (published / "tokenizer").iterdir()) == [
        "merges.txt",
        "vocab.json",
    ]
    bundle = convert(str(published), str(tmp_path / "run"))
    assert bundle.tokenizer.size == tokenizer.size
    loaded = read_bundle(tmp_path / "run").tokenizer
    text = "words some <|endoftext|> ünï"
    assert np.array_equal(loaded.encode(text), tokenizer.encode(text))
    assert loaded.decode(loaded.encode(text)) == text
    given = tmp_path / "given"
    given.mkdir()
    tokenizer.save(given)
    bundle = convert(str(published), str(tmp_path / "run2"), tokenizer=given)
    assert bundle.tokenizer.fingerprint == tokenizer.fingerprint


def test_every_layout_loads_directly(published: Path, tmp_path: Path) -> None:
    convert(str(published), str(tmp_path / "run"))
    convert(str(tmp_path / "run"), str(tmp_path / "folder"))
    expected = load_agent_parts(tmp_path / "run", device="cpu").model.state_dict()
    for place in (published, published / "tag_870", find_states(published), tmp_path / "folder"):
        found = load_agent_parts(place, device="cpu").model.state_dict()
        assert all(torch.equal(found[name], expected[name]) for name in expected)
        assert all(tensor.dtype == torch.float32 for tensor in found.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("h.1.dec_attn.o_net.weight"), r"h\.1\.dec_attn\.o_net\.weight is missing"),
        (lambda w: w.update({"h.0.extra": torch.zeros(1)}), "h.0.extra is none of this model's"),
        (
            lambda w: w.update({"h.0.pos_ff.CoreNet.2.bias": torch.zeros(31)}),
            r"CoreNet\.2\.bias has shape \(31,\), expected \(32,\)",
        ),
        (
            lambda w: w["ic_encoder.patch_embeddings.conv1.bias"].add_(1),
            "ic_encoder.patch_embeddings.conv1.bias differs from vision_encoder",
        ),
        (
            lambda w: w["h.1.dec_attn.r_w_bias"].add_(1),
            "h.1.dec_attn.r_w_bias differs from r_w_bias",
        ),
        (lambda w: w["pos_emb.inv_freq"].mul_(2), "inv_freq is not 10000"),
        (lambda w: w.clear(), "no weights under 'module'"),
        (lambda w: w.update({"h.99999.x": torch.zeros(1)}), "none of layer 2 but some of 99999"),
        (
            lambda w: w.update({"word_embedding.weight": torch.zeros(9)}),
            r"word_embedding.weight has shape \(9,\), expected 2 dimensions",
        ),
        (
            lambda w: w.update({"h.0.dec_attn.o_net.weight": torch.zeros(32, 32).long()}),
            "not tensors of floating-point numbers",
        ),
        (lambda w: w.pop("word_embedding.weight"), "not a released DB1 model"),
    ],
    ids=[
        "missing",
        "extra",
        "shape",
        "encoder",
        "bias",
        "frequencies",
        "empty",
        "layers",
        "dimensions",
        "integers",
        "embedding",
    ],
)
def test_wrong_entries_are_named(
    published: Path, tmp_path: Path, change: Callable, message: str
) -> None:
    rewrite(published, change)
    with pytest.raises(CheckpointError, match=message):
        convert(str(published), str(tmp_path / "run"))
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


def test_a_config_that_contradicts_the_weights(published: Path, tmp_path: Path) -> None:
    wrong = to_dict(CONFIG) | {"num_layers": 3}
    vocabulary = {
        "text_size": TEXT_SIZE, "num_discrete": TEXT_SIZE, "discrete_ids": "shared_with_text"
    }  # fmt: skip
    (tmp_path / "c.yaml").write_text(save_yaml({"model": wrong, "vocabulary": vocabulary}))
    with pytest.raises(CheckpointError, match=r"h\.2\.dec_attn\.layer_norm\.bias is missing"):
        convert(str(published), str(tmp_path / "run"), config=tmp_path / "c.yaml")
    convert(str(published), str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="has its own configuration"):
        convert(str(tmp_path / "run"), str(tmp_path / "x"), config=tmp_path / "c.yaml")
    text = (tmp_path / "run/config.yaml").read_text()
    (tmp_path / "run/config.yaml").write_text(text.replace("width: 32", "width: 64"))
    with pytest.raises(CheckpointError, match=r"expected \(.*64"):
        load_agent_parts(tmp_path / "run")


def test_a_config_adds_to_what_the_weights_tell(published: Path, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("model: {memory_start: empty}\nsequence: {length: 77}\n")
    bundle = convert(str(published), str(tmp_path / "run"), config=tmp_path / "c.yaml")
    assert bundle.model_config == replace(CONFIG, memory_start="empty")
    assert read_run(tmp_path / "run").sequence_length == 77


def test_numbers_that_float16_cannot_hold_are_refused(tmp_path: Path) -> None:
    large = {name: tensor.float() for name, tensor in draw().items()}
    large["content_bias"][0, 0] = 1e6
    with pytest.raises(CheckpointError, match="above the largest torch.float16"):
        write_released(tmp_path / "published", "tag", large, CONFIG)


def test_a_tokenizer_beyond_the_text_ids_is_refused(published: Path, tmp_path: Path) -> None:
    texts = [" ".join(f"word{n} other{n * 7}" for n in range(3000))]
    tokenizer = TextTokenizer.train(texts, TEXT_SIZE + 100)
    assert tokenizer.size > TEXT_SIZE
    tokenizer.save(tmp_path / "t.json")
    with pytest.raises(DataError, match=f"expected at most {TEXT_SIZE}"):
        convert(str(published), str(tmp_path / "run"), tokenizer=tmp_path / "t.json")


def test_steps_are_kept(tmp_path: Path) -> None:
    write_released(tmp_path / "published", "tag", draw(), CONFIG, step=870)
    assert convert(str(tmp_path / "published"), str(tmp_path / "run")).step == 870
    assert load_agent_parts(tmp_path / "run", device="cpu").tag == "step-00000870"
    config = yaml_of(tmp_path / "run")
    convert(str(tmp_path / "run"), str(tmp_path / "folder"))
    convert(str(tmp_path / "folder"), str(tmp_path / "copy"))
    assert yaml_of(tmp_path / "copy") == config | {"name": "copy"}


def yaml_of(run: Path) -> dict:
    return load_yaml(run / "config.yaml", is_own=True)


def test_damaged_bytes_end_in_one_error(published: Path, tmp_path: Path) -> None:
    """Flipped bytes anywhere in the pickle or the archive: an error, or the same weights."""
    file = find_states(published)
    whole = bytearray(file.read_bytes())
    rng = np.random.default_rng(0)
    refused = 0
    for place in rng.integers(len(whole), size=60).tolist() + list(range(60, 2000, 33)):
        damaged = whole.copy()
        damaged[place] ^= 0xFF
        file.write_bytes(damaged)
        try:
            read_bundle(published)
        except (CheckpointError, ConfigError):
            refused += 1
    assert refused > 10


def test_places(published: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no model here"):
        convert(str(tmp_path / "nowhere"), str(tmp_path / "run"))
    with pytest.raises(ConfigError, match="exists already"):
        convert(str(published), str(published))
    with pytest.raises(ConfigError, match="expected one of"):
        convert(str(published), str(tmp_path / "run"), to="onnx")
    with pytest.raises(ConfigError, match="expected one of"):
        convert(str(published), str(tmp_path / "run"), dtype="int8")
    write_released(published, "tag_2", draw(), CONFIG)
    assert find_states(published).parent.name == "tag_2"  # `latest` names it
    (published / "latest").unlink()
    with pytest.raises(CheckpointError, match=r"several tags \(tag_2, tag_870\)"):
        convert(str(published), str(tmp_path / "run"))
    convert(str(published / "tag_870"), str(tmp_path / "run"))


def test_precision_on_demand(published: Path, tmp_path: Path) -> None:
    convert(str(published), str(tmp_path / "run"), dtype="bfloat16")
    weights = read_bundle(tmp_path / "run").weights
    assert {tensor.dtype for tensor in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize("to", ["run", "safetensors", "released"])
def test_a_full_disk_leaves_nothing(published: Path, tmp_path: Path, to: str) -> None:
    program = (
        "import resource, signal, sys\n"
        "from db1.checkpoint.convert import convert\n"
        "from db1.errors import CheckpointError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        f"    convert({str(published)!r}, {str(tmp_path / 'out')!r}, to={to!r})\n"
        "except CheckpointError as error:\n"
        "    print(error)\n"
        "    sys.exit(3)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 3, done.stderr
    assert "cannot be written" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["published"]


@pytest.mark.slow
def test_12b_converts_and_acts_in_atari(tmp_path: Path) -> None:
    """Under 3 minutes and 16 GB for the conversion, then one step of Pong."""
    pytest.importorskip("ale_py", reason="pip install 'db1[atari]'")
    script = Path(__file__).parents[2] / "scripts" / "make_released_checkpoint.py"
    program = [sys.executable, str(script), str(tmp_path / "published"), "--size", "1.2b"]
    subprocess.run(program, check=True, timeout=600)
    command = "from db1.cli.main import main; main()"
    arguments = ["convert", str(tmp_path / "published"), str(tmp_path / "run")]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run([sys.executable, "-c", command, *arguments], check=True, timeout=180)
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert max(before, after) < 16e6  # kB
    act = (
        "import numpy as np\n"
        "from db1.inference.agent import Agent\n"
        "from db1.inference.load import load_agent_parts, read_run\n"
        "from db1.suites import make_env\n"
        f"run = load_agent_parts({str(tmp_path / 'run')!r}, device='cpu')\n"
        "env = make_env('atari/Pong')\n"
        "agent = Agent(run.model, run.codec(env.step_spec), memory_length=1024, batch_size=1)\n"
        "agent.reset(np.array([True]))\n"
        "observation, _ = env.reset(seed=2_000_000)\n"
        "action = agent.act([observation])[0]\n"
        "env.step(int(action))\n"
        "print('stepped', env.num_steps)\n"
    )
    done = subprocess.run([sys.executable, "-c", act], capture_output=True, text=True, timeout=300)
    assert done.stdout.split() == ["stepped", "1"], done.stderr
