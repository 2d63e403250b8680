"""The integer program as data: a graph, and the integers that quantized files hold. It imports the graph only."""
