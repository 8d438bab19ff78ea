"""metrics.jsonl: lines, trackers, and a run that is taken up again."""

import json
import math

from db1.metrics_log import MetricsWriter, read_metrics


def test_metrics_are_lines_and_go_to_trackers(tmp_path):
    class Tracker:
        records, closed = [], False

        def write(self, kind, step, values):
            self.records.append((kind, step, dict(values)))

        def close(self):
            self.closed = True

    tracker = Tracker()
    writer = MetricsWriter(tmp_path, trackers=[tracker])
    writer.write("train", 1, {"loss": 2.5, "loss_by_source": {"atari/pong": 2.0, "text": 3.0}})
    writer.write("evaluation", 1, {"loss": math.nan, "loss_by_task": {"a": math.inf, "b": 1.0}})
    writer.write("rollouts", 1, {"failures": {"a": "it broke"}, "episodes": 3})
    writer.close()
    train, evaluation, rollouts = read_metrics(tmp_path)
    assert train["step"] == 1 and train["loss_by_source"]["text"] == 3.0
    assert evaluation["loss"] is None and evaluation["loss_by_task"] == {"a": None, "b": 1.0}
    assert rollouts["failures"] == {"a": "it broke"} and rollouts["episodes"] == 3
    assert read_metrics(tmp_path, "evaluation") == [evaluation]
    assert [(kind, step) for kind, step, _ in tracker.records] == [
        ("train", 1),
        ("evaluation", 1),
        ("rollouts", 1),
    ]
    assert tracker.records[1][2]["loss"] is None and tracker.closed


def test_metrics_behind_the_resumed_step_are_cut(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (1, 2, 3):
        writer.write("train", step, {"loss": float(step)})
    writer.close()
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"kind": "train", "st')  # torn by a crash
    writer = MetricsWriter(tmp_path, after_step=2)
    writer.write("train", 3, {"loss": 30.0})
    writer.close()
    assert [record["loss"] for record in read_metrics(tmp_path)] == [1.0, 2.0, 30.0]
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        json.loads(line)
