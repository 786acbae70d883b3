"""Neural network modules that stages are built from."""
