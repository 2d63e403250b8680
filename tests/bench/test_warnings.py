"""What a record deserves to be told with a word of warning."""

from __future__ import annotations

import msgspec
import pytest
from support.bench_records import record, result

from edgecnn.bench.records import Conditions, OperatorShare, Profile
from edgecnn.bench.warnings import warnings_of


def words(*results, **host):
    return [w.text for w in warnings_of(record(*results, **host))]


def profile(**ns):
    rows = [
        OperatorShare(name=n, module=n, operator="CONV_2D", ns=v, share=0.5, floats="float" in n) for n, v in ns.items()
    ]
    return Profile(method="", operators=tuple(rows))


def test_nothing_odd_gives_no_warning():
    assert words(result(), result(seed=1, precision="int8", base=50_000)) == []


def test_int8_slower_than_fp32_names_the_layer():
    fp32 = result(profile=profile(first=10_000.0, second=90_000.0))
    int8 = result(150_000, seed=1, precision="int8", profile=profile(first=110_000.0, second=40_000.0))
    (text,) = words(fp32, int8)
    assert "int8 takes 1.50 times as long as fp32, most of it in first (+100.0 us)" in text


def test_float_operators_in_an_int8_file():
    (text,) = words(result(precision="int8", profile=profile(conv=1.0, float_add=1.0)))
    assert "float_add (CONV_2D); 50% of the time" in text


def test_threads_that_do_not_help():
    (text,) = words(result(), result(130_000, seed=1, threads=4))
    assert text.startswith("1 thread is faster than 4: by 1.3")
    assert words(result(), result(50_000, seed=1, threads=4)) == []


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ({"before": Conditions(governor="ondemand")}, "governor is ondemand"),
        ({"before": Conditions(load=(3.0, 1.0, 1.0))}, "3.0 processes were running"),
        ({"before": Conditions(memory_available=100 << 20, swap=1 << 30)}, "the system may swap"),
    ],
)
def test_conditions_that_deserve_a_word(host, text):
    (found,) = words(**host)
    assert text in found


def test_processes_that_deserve_a_word():
    facts = result().processes[0]
    debug = result(processes=(msgspec.structs.replace(facts, debug=True),) * 5)
    bare = result(processes=(msgspec.structs.replace(facts, delegates=0),) * 5, options={"xnnpack": True})
    slow = result(processes=(msgspec.structs.replace(facts, overhead_ns=5000),) * 5)
    assert "debug build" in words(debug)[0]
    assert "XNNPACK did not start" in words(bare)[0]
    assert words(msgspec.structs.replace(bare, options={"xnnpack": False})) == []
    assert "timing itself costs 5,000 ns" in words(slow)[0]
