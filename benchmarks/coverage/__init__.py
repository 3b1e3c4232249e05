"""The coverage sweep: every network of torchvision, every layer, every kind of growth, compared with the original."""
