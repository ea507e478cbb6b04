"""The fused HVNet."""
