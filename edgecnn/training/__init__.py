"""Fit models to data sets: tasks, the training loop, pictures of what a model finds."""
