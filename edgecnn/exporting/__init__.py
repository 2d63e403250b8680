"""From what a user names to a bundle: load, capture, check the capture, quantize, write."""
