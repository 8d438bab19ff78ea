"""YAML and overrides become dataclasses strictly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from db1.config import build, load_yaml, save_yaml, to_dict
from db1.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    sizes: tuple[int, ...] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner = field(default_factory=Inner)
    parts: dict[str, Inner] = field(default_factory=dict)
    limit: int | None = None
    folder: Path = Path("a")


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return path


def test_nested_values_overrides_and_interpolation(tmp_path: Path) -> None:
    path = _write(
        tmp_path, "name: x\nfolder: b/${name}\ninner: {rate: 1}\nparts: {k: {sizes: [3]}}\n"
    )
    outer = build(Outer, load_yaml(path, ["inner.rate=1e-3", "limit=4"], is_own=True))
    assert outer == Outer(
        name="x",
        inner=Inner(rate=0.001),
        parts={"k": Inner(sizes=(3,))},
        limit=4,
        folder=Path("b/x"),
    )
    assert (
        build(Outer, load_yaml(_write(tmp_path, save_yaml(to_dict(outer))), is_own=True)) == outer
    )


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("inner.rat=1", r"inner\.rat.*did you mean 'rate'"),
        ("inner.rate=fast", r"inner\.rate.*'fast'.*expected float"),
        ("limit=1.5", r"limit.*expected int"),
        ("limit=true", r"limit.*expected int"),
        ("inner.sizes=3", r"inner\.sizes.*expected a list"),
        ("inner=3", r"inner.*expected a mapping"),
        ("nonsense", "expected key=value"),
    ],
)
def test_bad_overrides_name_the_place(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(Outer, load_yaml(_write(tmp_path, "name: x\n"), [override], is_own=True))


@pytest.mark.parametrize("text", ["- a\n", "name: [x\n", "name: ${nothing}\n"])
def test_broken_yaml_is_one_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(_write(tmp_path, text), is_own=True)
    assert "\n" not in str(caught.value)


def test_missing_file_and_missing_key(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such configuration"):
        load_yaml(tmp_path / "absent.yaml", is_own=True)
    with pytest.raises(ConfigError, match="name: missing"):
        build(Outer, {})


@pytest.mark.parametrize(
    "text",
    [
        "name: ${oc.env:HOME}\n",
        "name: x\ninner: {rate: ['${oc.env:HOME,none}']}\n",
        "name: x\n? ${oc.env:HOME}\n: y\n",
        "name: ${oc.decode:'3'}\n",
        "name: ${${a}:HOME}\na: oc.env\n",
    ],
)
def test_only_the_users_own_file_reads_the_environment(tmp_path: Path, text: str) -> None:
    path = _write(tmp_path, text)
    with pytest.raises(ConfigError, match="which is refused in a file that others may have"):
        load_yaml(path, is_own=False)


def test_interpolation_and_the_environment_in_ones_own_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLACE", "here")
    assert load_yaml(_write(tmp_path, "name: ${oc.env:PLACE}\n"), is_own=True) == {"name": "here"}
    path = _write(tmp_path, "name: x\nfolder: b/${name}\n")
    assert load_yaml(path, is_own=False)["folder"] == "b/x"
