"""Model files: tensors and a header in one .safetensors file, checked when read."""
