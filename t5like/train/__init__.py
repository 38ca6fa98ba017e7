"""The training run: loss, optimizer, state, step, loop, checkpoints and logs."""
