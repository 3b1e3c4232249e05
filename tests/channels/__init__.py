"""Labels, counts and positions."""
