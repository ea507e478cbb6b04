"""Training of the bundled kinds of potential."""
