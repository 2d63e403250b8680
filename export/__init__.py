"""Graph to bytes, one subpackage per format. No torch."""
