"""Where an artifact runs: runtimes, the hosts they run on, and the agent that joins the two. No torch."""
