"""Curves of runs, drawn from their records."""

import pytest

from db1.errors import DataError
from db1.metrics_log import MetricsWriter
from db1.training.metrics.curves import read_run_records, series, training_curves, write_curves


def _run(folder, scores=2, steps=4):
    writer = MetricsWriter(folder)
    for step in range(1, steps + 1):
        values = {"loss": 5.0 / step, "loss_by_suite": {"a": 2.0 / step, "text": 4.0 / step}}
        values |= {"gradient_norm": 1.0, "learning_rate": 1e-3, "tokens_per_second": 100.0}
        writer.write("train", step, values | {"data_wait_seconds": 0.1, "step_seconds": 0.4})
    writer.write("evaluation", steps, {"loss": 3.0})
    score = {f"a/{n}": 0.1 * n for n in range(scores)} | {"b/x": None}
    values = {"score": {k: v for k, v in score.items() if v is not None}, "mean_score": 0.5}
    for step in (3, 2):  # results of earlier checkpoints may come later
        writer.write("rollouts", step, values)
    writer.close()
    return folder


def test_panels(tmp_path):
    run = read_run_records(_run(tmp_path / "one"))
    figure = training_curves([run])
    loss, suites, scores, norm, rate, speed = figure.axes
    assert [line.get_label() for line in loss.lines] == ["training", "held out"]
    assert list(loss.lines[0].get_ydata()) == [5.0, 2.5, 5 / 3, 1.25]
    assert [line.get_label() for line in suites.lines] == ["a", "text"]
    assert [line.get_label() for line in scores.lines] == ["a/0", "a/1", "mean"]
    assert list(scores.lines[-1].get_xdata()) == [2, 3]
    assert len(norm.lines) == len(rate.lines) == 1
    assert "25.0 % waiting for data" in speed.get_title()


def test_many_tasks_are_averaged_by_suite(tmp_path):
    run = read_run_records(_run(tmp_path / "one", scores=20))
    scores = training_curves([run]).axes[2]
    assert [line.get_label() for line in scores.lines] == ["a", "mean"]
    assert scores.lines[0].get_ydata()[0] == pytest.approx(0.95)


def test_runs_side_by_side(tmp_path):
    runs = [read_run_records(_run(tmp_path / name)) for name in ("one", "two")]
    loss = training_curves(runs).axes[0]
    assert [line.get_label() for line in loss.lines][::2] == ["one: training", "two: training"]


def test_series_leaves_out_what_was_not_finite():
    records = [{"step": 2, "loss": None}, {"step": 1, "loss": 2}, {"step": 3}]
    assert series(records, "loss") == [(1, 2.0)]


@pytest.mark.parametrize("ending", ["png", "svg", "html"])
def test_files(tmp_path, ending):
    out = tmp_path / "new" / f"curves.{ending}"
    write_curves([_run(tmp_path / "one"), _run(tmp_path / "a & b")], out)
    content = out.read_bytes()
    assert len(content) > 5000
    if ending == "html":
        page = content.decode()
        assert "a &amp; b" in page and "<svg" in page and "src=" not in page


def test_old_records_without_groups_are_drawn(tmp_path):
    writer = MetricsWriter(tmp_path / "old")
    writer.write("train", 10, {"loss": 2.0, "gradient_norm": 1.0, "learning_rate": 0.1})
    writer.close()
    write_curves([tmp_path / "old"], tmp_path / "old.png")
    assert (tmp_path / "old.png").read_bytes().startswith(b"\x89PNG")


def test_refuses(tmp_path):
    with pytest.raises(DataError, match=r"no metrics.jsonl, expected a run folder"):
        write_curves([tmp_path], tmp_path / "x.png")
    with pytest.raises(DataError, match=r"got ending '.jpeg', expected one of"):
        write_curves([_run(tmp_path / "one")], tmp_path / "x.jpeg")
    MetricsWriter(tmp_path / "new").close()
    with pytest.raises(DataError, match="no training step was logged yet"):
        write_curves([tmp_path / "new"], tmp_path / "x.png")
    (tmp_path / "new" / "metrics.jsonl").write_text("{}\nno json\n")
    record = '{"kind": "train", "step": 1, "loss_by_suite": {"tsp": "low"}}'
    (tmp_path / "new" / "metrics.jsonl").write_text(record + "\n")
    with pytest.raises(DataError, match=r"metrics.jsonl: loss_by_suite\.tsp is .*low.*expected"):
        write_curves([tmp_path / "new"], tmp_path / "x.png")
    (tmp_path / "new" / "metrics.jsonl").write_text("{}\nno json\n")
    with pytest.raises(DataError, match=r"metrics.jsonl line 1: kind is missing, expected a text"):
        write_curves([tmp_path / "new"], tmp_path / "x.png")


@pytest.mark.slow
def test_nobody_stumbles(audit, tmp_path):
    out = tmp_path / "curves.html"
    write_curves([_run(tmp_path / "one"), _run(tmp_path / "two")], out)
    audit(out)
