"""Column layout, schema and grouping of rows for the ``long`` source."""
