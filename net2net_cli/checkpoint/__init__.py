"""Bytes on disk: safetensors mapped in and streamed out, PyTorch files, lineage metadata, publishing. No torch."""
