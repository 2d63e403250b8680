"""The table of a measurement, its pictures and its CSV."""

from __future__ import annotations

from support.bench_records import record, result

from edgecnn.bench.table import bar, columns_for, histogram, markdown, shape


def test_a_table_leaves_out_columns_where_a_terminal_is_narrow(capsys):
    from edgecnn.cli.bench_output import _fitting

    rows = list(record().results)
    whole = columns_for(rows)
    assert _fitting(whole, rows, 1000) == whole
    narrow = [c.name for c in _fitting(whole, rows, 90)]
    assert {"artifact", "target", "p50_us", "p50_half_interval", "p99_us", "verdict"} <= set(narrow)
    assert "mad_us" not in narrow
    assert "mean dev" in capsys.readouterr().err


def test_pictures():
    assert shape([]) == ""
    assert shape([1000] * 50, 4) == "█   "
    assert bar(0.5, 4) == "██"
    assert bar(2.0, 2) == "██"
    assert len(histogram(result())) == 17
    assert markdown(["a", "b"], [["x|y", "1"]], [True, False]).splitlines()[-1] == "| x\\|y | 1 |"


def test_names_from_a_record_are_no_formulas():
    from edgecnn.bench.table import as_csv

    assert "'=cmd" in as_csv([result(artifact="=cmd")])
