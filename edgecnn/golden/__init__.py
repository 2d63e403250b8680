"""Reference executors: they compute the values that a graph defines, in float and in integers."""
