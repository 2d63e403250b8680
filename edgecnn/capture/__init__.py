"""torch to graph: the only place that knows ATen."""
