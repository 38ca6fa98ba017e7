"""From text to batches, with numpy and tf.data; nothing in here imports JAX."""
