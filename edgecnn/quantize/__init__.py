"""From a float graph to one integer program: observe, choose ranges, quantize weights."""
