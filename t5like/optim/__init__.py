"""Optimizers: schedules, groups of parameters, and the sharding of the optimizer state."""
