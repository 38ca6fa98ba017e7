"""Tasks: predictions of a model for examples, what they are worth, and how a model comes to be one for a task."""
