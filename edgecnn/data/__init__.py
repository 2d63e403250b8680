"""Data sets: the shipped digits, and images the user has in npz files, IDX files or folders."""
