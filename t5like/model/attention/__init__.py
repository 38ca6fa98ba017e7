"""Attention: `attend` and its implementations, masks, and the key-value cache."""
