"""Phonons and what follows from them, through phonopy's array interface."""
