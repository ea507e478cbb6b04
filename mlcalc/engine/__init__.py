"""The inference engine: which way a potential is evaluated, in batches and in pieces, and what it cautions of."""
