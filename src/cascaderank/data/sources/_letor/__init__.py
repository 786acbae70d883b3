"""Reading of LETOR files for the ``letor`` source."""
