"""The integer program as data: a graph, and the integers that quantized files hold. Imports the graph only."""
