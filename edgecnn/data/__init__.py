"""Data sets: the shipped digits and scenes, and the user's images in npz files, IDX files or folders."""
