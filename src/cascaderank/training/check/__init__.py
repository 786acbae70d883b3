"""Check of a data set and a config before training; see ``docs/check.md``."""
