"""Budgets: what is over, by how much, and budgets that mean nothing."""

from __future__ import annotations

import pytest
from support.bench_records import counted, record, result
from support.command import invoke

from edgecnn.bench.budget import ITEMS, over_budget, over_project_budgets, parse_budget
from edgecnn.errors import UsageError
from edgecnn.project.reading import budgets_of


def test_budgets_name_what_is_over_and_by_how_much():
    found = record(result(), counted(3_000_000)).results
    assert not list(over_budget(found, parse_budget("latency_p99_ms=5,size_kb=1,peak_kb=500,instructions_m=3")))
    over = [str(o) for o in over_budget(found, parse_budget("latency_p50_ms=0.05, instructions_m=2"))]
    assert len(over) == 2
    assert "latency_p50_ms is 0." in over[0]
    assert over[1].endswith("instructions_m is 3, 50.0% over 2")
    assert [o.value for o in over_budget(found, {"peak_kb": 499})] == [500]


@pytest.mark.parametrize(
    "text", ["", "speed=1", "size_kb", "size_kb=x", "size_kb=0", "size_kb=nan", "size_kb=1,size_kb=2"]
)
def test_budgets_that_mean_nothing(text):
    with pytest.raises(UsageError):
        parse_budget(text)


def test_a_budget_for_what_nobody_has():
    with pytest.raises(UsageError, match="arena_kb"):
        list(over_budget(record().results, {"arena_kb": 1}))


def test_budgets_of_a_project(tmp_path):
    (tmp_path / "edgecnn.toml").write_text('[budget]\nsize_kb = 0.5\n[budget."*@pi4"]\ninstructions_m = 2\n')
    (tmp_path / "deep").mkdir()
    budgets = budgets_of("net", tmp_path / "deep")
    found = record(result(), counted(3_000_000)).results
    assert [(o.subject, o.item) for o in over_project_budgets(found, budgets)] == [
        ("net.fp32.tflite on litert@local", "size_kb"),
        ("net.fp32.tflite on litert@pi4", "size_kb"),
        ("net.fp32.tflite on litert@pi4", "instructions_m"),
    ]
    text = '[budget]\nsize_kb = 0.5\n[model.net]\nmodel = "lenet5"\nbudget.size_kb = 9\nbudget."*@pi4".peak_kb = 7\n'
    (tmp_path / "edgecnn.toml").write_text(text)
    assert [(b.targets, b.item, b.limit) for b in budgets_of("net", tmp_path)] == [
        ("*", "size_kb", 9),
        ("*@pi4", "peak_kb", 7),
    ]
    assert [b.limit for b in budgets_of("other", tmp_path)] == [0.5]
    (tmp_path / "deep" / ".git").mkdir()
    assert budgets_of("net", tmp_path / "deep") == ()


@pytest.mark.parametrize(
    "text", ["budget = 3", "[budget]\nspeed = 1", "[budget]\nsize_kb = true", "[budget", "[budget.x]\ny=1"]
)
def test_budgets_of_a_project_that_mean_nothing(tmp_path, text):
    (tmp_path / "edgecnn.toml").write_text(text)
    with pytest.raises(UsageError):
        budgets_of("net", tmp_path)


def test_every_budget_item_is_named_in_the_help():
    _, text = invoke("bench", "-h")
    assert all(item in text for item in ITEMS)
