"""The rescaling of int16x8, against unbounded integers."""

from __future__ import annotations

import numpy as np

from edgecnn.golden.integer16 import rescale15, rescale31


def test_rescaling_against_unbounded_integers() -> None:
    rng = np.random.default_rng(0)
    acc = rng.integers(-(1 << 45), 1 << 45, 2000)
    real = np.exp2(rng.uniform(-40, 6.9, 2000))
    for rescale, bits in ((rescale15, 15), (rescale31, 31)):
        for a, r, got in zip(acc.tolist(), real.tolist(), rescale(acc, real).tolist(), strict=True):
            fraction, exponent = np.frexp(r)
            whole = round(float(fraction) * (1 << 31)) if exponent >= -31 else 0
            kept = min((whole + (1 << 15)) >> 16, 0x7FFF) if bits == 15 else whole
            shift = bits - int(exponent)
            assert got == (a * kept + (1 << (shift - 1))) >> shift or whole == got == 0
