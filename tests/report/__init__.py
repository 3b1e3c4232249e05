"""Pages of what was found."""
