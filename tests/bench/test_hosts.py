"""The peak of a board's processor, and the share of it that a measurement reaches."""

from __future__ import annotations

import msgspec
from support.bench_records import HOST, record, result

from edgecnn.bench.hosts import peak_macs
from edgecnn.bench.table import columns_for


def test_the_share_of_a_boards_peak():
    facts = msgspec.structs.replace(HOST, kind="ssh", board="Raspberry Pi 4 Model B Rev 1.4")
    assert peak_macs(facts, "fp32", 1) == 1800e6 * 4 or peak_macs(facts, "fp32", 1) == 1500e6 * 4
    assert peak_macs(facts, "int8", 8) == 4 * 2 * peak_macs(facts, "fp32", 1)
    assert peak_macs(HOST, "fp32", 1) is None
    (row,) = record(result(macs=360_000, peak_macs=7.2e9)).results
    share = next(c for c in columns_for([row]) if c.name == "roof_share")
    assert share.text(row).startswith(("49.", "50."))
