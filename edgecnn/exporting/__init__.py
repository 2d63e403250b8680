"""Export a model to a bundle: load, capture, check the capture, quantize, write."""
