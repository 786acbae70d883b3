"""Input files, timestamps and long tables, shared by several sources."""
