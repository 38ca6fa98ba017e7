"""Checkpoints of Hugging Face and T5X in, folders of Hugging Face out, and the proof that they are the same."""
