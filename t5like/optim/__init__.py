"""Optimizers: schedules, groups of parameters, and where the optimizer state lives."""
