"""Whole networks, grown layer by layer."""
