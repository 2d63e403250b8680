"""Limits on metrics: how they are read, and what breaks them."""

from __future__ import annotations

import numpy as np
import pytest
from support.compare_files import FLOAT

from edgecnn.compare.metric_limits import METRICS, broken, parse_limit
from edgecnn.errors import UsageError


def test_limits() -> None:
    assert parse_limit("snr_db=40") == ("snr_db", 40.0)
    values = dict.fromkeys(METRICS, 0.5)
    assert not broken(values, {"max_abs_error": 0.5, "snr_db": 0.5})
    assert "at most 0.4" in broken(values, {"max_abs_error": 0.4})
    assert "at least 0.6" in broken(values, {"cosine": 0.6})
    assert broken({**values, "max_abs_error": np.nan}, {"max_abs_error": np.inf})
    assert "no row" in broken({**values, "top1_disagreement": None}, {"top1_disagreement": 0.0})
    for text in ("max_abs_error", "nonsense=1", "max_abs_error=x", "max_abs_error=nan", "="):
        with pytest.raises(UsageError, match="METRIC=VALUE"):
            parse_limit(text)
    invalid = "is not a valid limit"
    for text, said in (("cosine=2", "is more than 1"), ("rmse=-1", invalid), ("rmse=inf", invalid)):
        with pytest.raises(UsageError, match=said):
            parse_limit(text)


def test_nan_breaks_every_limit(write, compare) -> None:
    nodes = [("Sqrt", ["x"], ["y"], {})]
    path = write("n.onnx", nodes, [("x", FLOAT, [1, 9])], [("y", FLOAT, [1, 9])])
    report = compare(path, path, limits={"max_abs_error": 1e30})
    assert report.exit_code == 1
    assert report.comparisons[0].metrics["nans"] > 0
