"""What all floors stand on: the roots of errors and warnings.  It knows nothing but Python."""
