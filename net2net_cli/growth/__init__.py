"""Deciding what to grow, as plans, and applying plans to tensors. No torch."""
