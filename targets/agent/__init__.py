"""The agent's folder: the agent's ``sys.path[0]``, so nothing else may live here; it could shadow a module."""
