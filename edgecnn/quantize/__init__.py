"""Quantization: from a float graph to one integer program, by observed ranges and integer weights."""
