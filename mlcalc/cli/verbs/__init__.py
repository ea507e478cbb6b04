"""The verbs of the command line, one file each, imported when they are used."""

from __future__ import annotations

from mlcalc.cli.commands import LazyVerb

_HERE = "mlcalc.cli.verbs"

VERBS = {
    "md": LazyVerb(f"{_HERE}.md", "md_command", "Run molecular dynamics; run again to continue."),
    "rdf": LazyVerb(f"{_HERE}.rdf", "rdf_command", "Distribution of distances: g(r), or h(r) of molecules."),
    "relax": LazyVerb(f"{_HERE}.relax", "relax_command", "Relax positions and cells."),
    "eos": LazyVerb(f"{_HERE}.eos", "eos_command", "Equation of state: V0, E0 and bulk modulus."),
    "elastic": LazyVerb(f"{_HERE}.elastic", "elastic_command", "Elastic constants and moduli."),
    "vacancy": LazyVerb(f"{_HERE}.vacancy", "vacancy_command", "Vacancy energies and migration barriers."),
    "surface": LazyVerb(
        f"{_HERE}.surface", "surface_command", "Surface energies, and stacking faults of fcc crystals."
    ),
    "phonons": LazyVerb(f"{_HERE}.phonons", "phonons_command", "Phonon dispersion, density of states, thermodynamics."),
    "effective-phonons": LazyVerb(
        f"{_HERE}.effective_phonons", "effective_phonons_command", "Phonons at a temperature, self-consistent."
    ),
    "qha": LazyVerb(f"{_HERE}.qha", "qha_command", "Thermal expansion and Grueneisen parameters."),
    "conductivity": LazyVerb(
        f"{_HERE}.conductivity", "conductivity_command", "Lattice thermal conductivity (phono3py)."
    ),
    "ipi": LazyVerb(f"{_HERE}.ipi", "ipi_command", "Serve i-PI with forces, or run it."),
    "lammps": LazyVerb(f"{_HERE}.lammps", "lammps_command", "Run a LAMMPS input script, on one or several processes."),
    "models": LazyVerb(f"{_HERE}.models", "models_command", "List the bundled models, or describe one model file."),
    "sample": LazyVerb(f"{_HERE}.sample", "sample_command", "Structures to try things with."),
    "train": LazyVerb(f"{_HERE}.train", "train_command", "Train a model; run again to continue."),
    "eval": LazyVerb(f"{_HERE}.evaluate", "eval_command", "Errors of a model on labeled frames."),
    "import": LazyVerb(
        f"{_HERE}.import_", "import_command", "Convert a HermNet or ViSNet checkpoint into a model file."
    ),
    "doctor": LazyVerb(f"{_HERE}.doctor", "doctor_command", "What runs here, how fast, how exactly, up to which size."),
}
