"""What a network is: layers, ops, shapes, and the spec that holds them. No torch."""
