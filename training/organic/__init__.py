"""Labels for `organic-visnet`: molecules from fragments, geometries, and AIMNet2's energies and forces (README.md)."""
