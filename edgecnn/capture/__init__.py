"""Capture: from a torch module to a graph. No other package knows ATen's operators."""
