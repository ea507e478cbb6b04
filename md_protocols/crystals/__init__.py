"""What is true of a crystal whatever is computed: symmetry, kinds of atoms, cells, vacuum."""
