"""Memory-efficient forms of SoftSort."""
