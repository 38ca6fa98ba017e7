"""Tasks: rows of sources become examples, and examples become what the three kinds of models read and learn."""
