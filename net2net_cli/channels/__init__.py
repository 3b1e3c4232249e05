"""How channels flow through a network: labels, counts, positions. No torch."""
