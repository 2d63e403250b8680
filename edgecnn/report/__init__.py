"""What came of a check or a whole project, in the forms that people and CI read."""
