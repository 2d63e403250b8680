"""Which layer of an artifact breaks its rule, by how much, and why."""
