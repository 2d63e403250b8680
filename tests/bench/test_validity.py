"""What surrounds samples can make them invalid."""

from __future__ import annotations

import msgspec
from support.bench_records import record, result

from edgecnn.bench.records import Conditions


def test_what_surrounds_samples_can_make_them_invalid():
    facts = result().processes[0]
    spoilt = {
        "frequency": msgspec.structs.replace(facts, khz=(1500_000,) * 9 + (600_000,)),
        "load": msgspec.structs.replace(facts, cpu_ns=(50,) * 10),
        "warm-up": msgspec.structs.replace(facts, steady=False),
    }
    for kind, process in spoilt.items():
        (found,) = record(result(processes=(process,) * 5)).results
        assert ({i.kind for i in found.invalid_reasons}, found.valid) == ({kind}, False)
    (hot,) = record(before=Conditions(throttled=()), after=Conditions(throttled=("throttled now",))).results
    assert [i.kind for i in hot.invalid_reasons] == ["throttled"]
    assert record().results[0].valid
