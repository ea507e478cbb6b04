"""Beyond the harmonic crystal: effective phonons, quasi-harmonic expansion, Grüneisen parameters, conductivity."""
