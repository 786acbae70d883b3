"""From a request log to columns of numbers: fit a schema, encode, keep in memory-mapped files."""
