"""What a finished or running run can say: evaluation, generation and mask filling."""
