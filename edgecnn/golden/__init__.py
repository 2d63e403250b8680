"""Reference executors: what a graph means, in numbers."""
