"""From structures to graphs: validation, neighbor lists, tensors."""
