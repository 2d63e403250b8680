"""The agent: the program that runs on a device, opens artifacts on a runtime and answers a host's requests.

It is written in modules and travels as one file, which `single_file.agent_source` makes from them: a device needs
nothing of edgecnn, and no module of the agent can shadow another one there. The host imports the modules themselves.

Every module except `single_file` runs on devices, and follows these rules, most of which `agent_source` checks:

- It runs under Python 3.9. Annotations are never evaluated, so they may be written as for Python 3.11.
- It imports the standard library and numpy, other modules of the agent by ``from edgecnn.targets.agent.x import name``
  at its top, and nothing else. A runtime is imported through ``importlib``, when an artifact is opened on it.
- No two modules define the same name, private or not: in the one file they share a namespace.
"""
