"""Time, memory and accuracy of the engine and of other codes: `python -m benchmarks --help`."""
