"""Which value of one file is which of another's: told by names, shapes or options."""

from __future__ import annotations

import pytest

from edgecnn.compare.matching import match
from edgecnn.errors import UsageError


def paired(a, b, mapping=None, fits=lambda _i, _j: True, *, all_of_them=True):
    pairs = match(a, b, mapping or {}, fits, what="output", all_of_them=all_of_them)
    return [(a[p.a], b[p.b], p.how) for p in pairs]


def test_names_that_tell() -> None:
    assert paired(["x", "y"], ["y", "x"]) == [("x", "x", "by name"), ("y", "y", "by name")]
    wrapped = "by name, without TensorFlow's wrapping"
    assert paired(["x", "y"], ["serving_default_y:0", "x:0"]) == [
        ("x", "x:0", wrapped),
        ("y", "serving_default_y:0", wrapped),
    ]
    assert paired(["x"], ["input_1"]) == [("x", "input_1", "the only output")]
    assert paired(["x", "y"], ["x", "z"])[1] == ("y", "z", "the only output left")
    assert paired(["a", "b"], ["c", "d"], {"a": "d"})[0] == ("a", "d", "by --output-map")


def test_shapes_that_tell() -> None:
    assert paired(["a", "b"], ["c", "d"], fits=lambda i, j: i != j) == [("a", "d", "by shape"), ("b", "c", "by shape")]


@pytest.mark.parametrize("fits", [lambda _i, _j: True, lambda _i, _j: False, lambda i, _j: i == 0])
def test_names_that_do_not_tell(fits) -> None:
    with pytest.raises(UsageError) as caught:
        paired(["a", "b"], ["c", "d"], fits=fits)
    assert "--output-map a=c" in caught.value.hint


def test_outputs_may_be_left_over_where_names_tell() -> None:
    assert paired(["a"], ["a", "b"], all_of_them=False) == [("a", "a", "by name")]
    with pytest.raises(UsageError):
        paired(["a"], ["a", "b"], all_of_them=True)
    with pytest.raises(UsageError):
        paired(["a"], ["c", "b"], all_of_them=False)


@pytest.mark.parametrize("mapping", [{"z": "c"}, {"a": "z"}, {"a": "c", "b": "c"}])
def test_maps_that_are_wrong(mapping) -> None:
    with pytest.raises(UsageError, match="--output-map"):
        paired(["a", "b"], ["c", "d"], mapping)
