"""For maintainers: `python -m mlcalc.bundled` writes the index of the bundled models after weights have changed."""

from __future__ import annotations

from mlcalc import bundled
from mlcalc.model_file.model_file import load_model

for path in bundled.FOLDER.glob("*.safetensors"):
    load_model(path)  # nothing is released that cannot be loaded
index = bundled.write_index(bundled.FOLDER)
for file, sha256 in index.items():
    print(f"{sha256}  {file}")
print(f"{len(index)} models in {bundled.INDEX}")
