"""The graph: a model between torch and the file formats, as operators and constants. It needs numpy only."""
