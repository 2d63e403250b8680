"""Where a difference arises: the layer, and the likely cause."""
