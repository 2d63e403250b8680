"""Check a bundle: judge what artifacts compute, inspect their files, locate failures."""
