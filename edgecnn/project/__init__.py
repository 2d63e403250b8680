"""A project: what ``edgecnn.toml`` says, and running all of it."""
