from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from db1.report import write_report

FIRST = {"toy/a": [90.0, 110.0, 95.0] * 4, "toy/b": [50.0, 50.0], "toy/only": [1.0, 2.0]}
SECOND = {"toy/a": [20.0, 10.0, 15.0] * 4, "toy/b": [50.0, 50.0], "toy/other": [1.0, 2.0]}


def test_two_evaluations(write_evaluation: Callable[..., Path]) -> None:
    first, second = write_evaluation("first", FIRST), write_evaluation("second", SECOND)
    text = write_report(first, others=[second]).read_text()
    assert "On 2 tasks in common" in text and "differs by +41.7 %" in text
    assert "the first is better on 1, the second on 0, and 1 are undecided" in text
    row = next(line for line in text.splitlines() if line.startswith("| toy/a | 98.3 % | 15.0 %"))
    assert "| +83.3 % |" in row and row.endswith("| first |")
    assert "| toy/b | 50.0 % | 50.0 % | +0.0 % | 0.0 % .. 0.0 % | 1 | - |" in text
    after = text.split("## Comparison")[1].split("## Tasks")[0]
    assert "toy/only" not in after and "toy/other" not in after
    reverse = write_report(second, others=[first]).read_text()
    assert "differs by -41.7 %" in reverse
    assert "the first is better on 0, the second on 1" in reverse


def test_other_references_and_nothing_in_common(write_evaluation: Callable[..., Path]) -> None:
    first, second = write_evaluation("first", FIRST), write_evaluation("second", SECOND)
    results = json.loads((second / "results.json").read_text())
    results["tasks"]["toy/a"]["expert"] = 200.0
    (second / "results.json").write_text(json.dumps(results))
    text = write_report(first, others=[second]).read_text()
    assert "Left out: toy/a was normalised by other reference returns." in text
    third = write_evaluation("third", {"x/y": [1.0]})
    assert "no task in common" in write_report(first, others=[third]).read_text()


def test_page_with_two(browser, write_evaluation: Callable[..., Path]) -> None:
    first, second = write_evaluation("first", FIRST), write_evaluation("second", SECOND)
    write_report(first, first / "page.html", others=[second])
    browser.open(first / "page.html", width=375)
    assert browser.overflow() == 0
    browser.script("document.querySelectorAll('#table-against-0 thead button')[3].click()")
    heads = "return [...document.querySelectorAll('#table-against-0 tbody th')]"
    assert browser.script(f"{heads}.map(e => e.textContent)") == ["toy/a", "toy/b"]
    legends = "return [...document.querySelectorAll('#threshold .legend li')].length"
    assert browser.script(legends) == 2
    browser.check()


def test_published_figures(write_evaluation: Callable[..., Path]) -> None:
    returns = {"classic_control/CartPole-v1": [90.0, 100.0], "babyai/GoTo": [0.9, 0.9]}
    text = write_report(write_evaluation("real", returns)).read_text()
    assert "JAT, babyai: not compared, 1 of its 39 tasks are here under rules that agree" in text
    assert "| JAT | babyai |" not in text and "Gato" not in text


def test_published_results_task_by_task(write_evaluation: Callable[..., Path]) -> None:
    returns = {
        "babyai/GoTo": [0.9, 0.8] * 10,
        "metaworld/reach-v3": [900.0] * 20,
        "metaworld/push-v3": [900.0] * 20,
        "dmc/reacher-easy": [10.0] * 20,
    }
    folder = write_evaluation("agents", returns)
    text = write_report(folder, folder / "page.html", folder / "tables.tex").read_text()
    after = text.split("## Published figures")[1]
    assert "JAT (one model for all tasks): better here on 1, there on 0 tasks, and 0 are" in after
    assert "| babyai/GoTo | 82.6 % | 91.5 % | +8.9 % |" in after
    why = "2 tasks: measured on Meta-World v2 with shorter episodes; db1 has v3 and 500 steps."
    assert f"JAT, not compared: {why}" in after and f"Vintix, not compared: {why}" in after
    row = next(line for line in after.splitlines() if line.startswith("| dmc/reacher-easy |"))
    assert "| 98.7 % | 1.0 % | -97.7 % |" in row and row.endswith("| TD-MPC2 |")
    assert "metaworld/reach-v3" not in after
    for source in ("arXiv:2402.09844", "arXiv:2310.16828", "(Apache-2.0)", "(MIT)"):
        assert source in after
    assert "TD-MPC2 and this evaluation task by task" in (folder / "page.html").read_text()
    assert "reacher-easy" in (folder / "tables.tex").read_text()
