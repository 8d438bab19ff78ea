"""Two trainings in numbers."""

import json

import pytest

from db1.config import save_yaml
from db1.errors import ConfigError, DataError
from db1.metrics_log import MetricsWriter
from db1.training.metrics.comparison import compare_trainings
from db1.training.metrics.progress import seconds_left


def _run(folder, steps, factor=1.0, width=8):
    writer = MetricsWriter(folder)
    for step in range(1, steps + 1):
        values = {"loss": factor * 10.0 / step, "loss_by_suite": {"text": factor / step}}
        writer.write("train", step, values | {"tokens_per_second": 100.0 * factor})
        writer.write("evaluation", step, {"loss": factor * 20.0 / step})
    writer.close()
    settings = {"name": folder.name, "model": {"width": width, "layers": [1]}}
    (folder / "config.yaml").write_text(save_yaml(settings))
    return folder


def test_losses_at_the_last_step_in_common(tmp_path):
    a, b = _run(tmp_path / "a", 20), _run(tmp_path / "b", 40, factor=2.0, width=16)
    found = compare_trainings(a, b)
    assert found["step"] == 20 and found["last_steps"] == [20, 40]
    mean = (10 / 19 + 10 / 20) / 2  # the last tenth of 20 records
    figures = found["figures"]
    assert figures["training loss"] == pytest.approx([mean, 2 * mean])
    assert figures["held-out loss"] == pytest.approx([1.0, 2.0])
    assert figures["lowest held-out loss"] == pytest.approx([1.0, 1.0])
    assert figures["training loss, text"] == pytest.approx([mean / 10, mean / 5])
    assert figures["tokens a second"] == [100.0, 200.0]
    assert "score of acting" not in figures
    assert found["settings"] == {"model.width": [8, 16]}


def test_the_verb(tmp_path, capfd, monkeypatch):
    import sys

    from db1.cli.main import main

    a, b = _run(tmp_path / "a", 20), _run(tmp_path / "b", 20, width=16)
    arguments = ["db1", "compare", str(a), str(b), "--json", str(tmp_path / "c.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as stopped:
        main()
    out, err = capfd.readouterr()
    assert stopped.value.code == 0, err
    assert "held-out loss" in out and "model.width: A 8, B 16" in out
    assert json.loads((tmp_path / "c.json").read_text())["figures"]["held-out loss"] == [1.0, 1.0]


def test_a_shared_run_does_not_read_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET", "hunter2")
    a, b = _run(tmp_path / "a", 20), _run(tmp_path / "b", 20)
    with open(b / "config.yaml", "a") as file:
        file.write("note: ${oc.env:SECRET}\n")
    with pytest.raises(ConfigError, match="oc.env"):
        compare_trainings(a, b)


def test_a_folder_without_records(tmp_path):
    with pytest.raises(DataError, match="expected a run folder"):
        compare_trainings(_run(tmp_path / "a", 2), tmp_path)


def test_the_time_left_is_at_the_mean_pace_of_this_process():
    assert seconds_left(100, 150, 200, 25.0) == 25.0
    assert seconds_left(0, 0, 10, 0.0) == 0.0
