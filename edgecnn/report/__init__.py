"""Reports on the outcomes of a check or a project, for people and for CI."""
