"""Programs that stand in for an agent or hold one."""

from __future__ import annotations

from support.agent_file import agent_file

AGENT = str(agent_file())
HANG = "import time; time.sleep(1000)"
PREAMBLE = f"""
import importlib.util, json, os, signal, subprocess, sys, time
import numpy as np
spec = importlib.util.spec_from_file_location("agent", {AGENT!r})
agent = sys.modules["agent"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(agent)
"""
