"""A run directory: acquiring it, opening it, its checkpoints, and what it starts from."""
