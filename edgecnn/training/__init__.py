"""Fit models of the zoo to data sets: tasks, the training loop, pictures of what was found."""
