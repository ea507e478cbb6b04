"""For maintainers: `python -m mlcalc.bundled` writes the index of the bundled models after weights have changed."""

from __future__ import annotations

from mlcalc.bundled import INDEX, write_index
from mlcalc.model_file import load_model

index = write_index()
for file, sha256 in index.items():
    load_model(file.removesuffix(".safetensors"))  # nothing is released that cannot be loaded
    print(f"{sha256}  {file}")
print(f"{len(index)} models in {INDEX}")
