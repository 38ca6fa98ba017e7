"""Answers of a run: decoding with a KV cache, sampling, generation from prompts, and mask filling."""
