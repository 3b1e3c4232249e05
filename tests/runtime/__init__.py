"""What needs torch."""
