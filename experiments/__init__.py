"""The Net2Net paper's experiments: `net2net` does the growing, Lightning Fabric the training."""
