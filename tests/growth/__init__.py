"""Plans, and what they do to tensors."""
