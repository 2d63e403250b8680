"""Records of measurements: they come back as they were, and what is none is refused."""

from __future__ import annotations

import json

import pytest
from support.bench_records import record

from edgecnn.bench.records import decode_record, encode_record, load_record, save_record
from edgecnn.errors import DataError


def test_records_come_back_as_they_were(report, tmp_path):
    save_record(report.record, tmp_path / "a.json")
    assert load_record(tmp_path / "a.json") == report.record
    plain = json.loads((tmp_path / "a.json").read_text())
    assert plain["schema"] == 1
    assert {"artifact", "target", "samples_ns", "valid", "statistics", "sha256"} <= set(plain["results"][0])
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_statistics_in_a_record_are_derived_anew():
    plain = json.loads(encode_record(record()))
    plain["results"][0]["statistics"]["p50"]["value"] = 1.0
    plain["results"][0]["valid"] = False
    assert decode_record(json.dumps(plain).encode()) == record()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda r: r.update(schema=2), "this edgecnn reads 1"),
        (lambda r: r.pop("schema"), "cannot be read"),
        (lambda r: r.update(more=1), "unknown field"),
        (lambda r: r.update(hosts={}), "no facts about the hosts local"),
        (lambda r: r["results"][0].update(samples_ns=[]), "0 rows of samples"),
        (lambda r: r["results"][0]["samples_ns"][0].append(5), "do not add up"),
        (lambda r: r["results"][0]["samples_ns"][0].__setitem__(0, -1), "negative time"),
        (lambda r: r["results"][0]["samples_ns"][0].__setitem__(0, 10**400), "cannot be read"),
        (lambda r: r["results"][0].update(target="\x1b[2J"), "is not a valid name"),
        (lambda r: r["results"][0]["processes"][0].update(khz=[]), "do not add up"),
    ],
)
def test_records_that_are_none(change, words):
    plain = json.loads(encode_record(record()))
    change(plain)
    with pytest.raises(DataError, match=words):
        decode_record(json.dumps(plain).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b"[" * 100_000, b'{"schema": 1}'])
def test_bytes_that_are_no_record(data):
    with pytest.raises(DataError):
        decode_record(data)


def test_a_record_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        load_record(tmp_path / "none.json")
    with pytest.raises(DataError, match="cannot write"):
        save_record(record(), tmp_path / "none" / "a.json")
