"""The graph: what a model is, between torch and the formats. numpy only."""
