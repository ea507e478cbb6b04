"""The fused ViSNet."""
