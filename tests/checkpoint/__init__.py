"""Tests of `net2net_cli.checkpoint`."""
