"""Parts that stages are built of."""
