"""Every precision is offered by a format, or refused with the reason."""

from __future__ import annotations

import pytest

from edgecnn.errors import UsageError
from edgecnn.export.formats import FORMATS, OFFERED, REFUSED, check_offered


def test_every_precision_is_offered_or_refused_with_a_reason() -> None:
    assert tuple(OFFERED) == FORMATS
    for form in FORMATS:
        for precision in {p for offered in OFFERED.values() for p in offered}:
            assert (precision in OFFERED[form]) != ((form, precision) in REFUSED)
    check_offered("tflite", "int16x8")
    with pytest.raises(UsageError, match="int8-dynamic is not written as onnx") as caught:
        check_offered("onnx", "int8-dynamic")
    assert caught.value.why
    assert caught.value.hint
