"""Hosts: ways to start the agent, and the connection that speaks with it."""
