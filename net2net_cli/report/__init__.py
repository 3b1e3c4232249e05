"""A page of what was found about two networks: one file, without scripts, that needs nothing from elsewhere."""
