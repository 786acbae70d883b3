"""Quotas under a budget: recall of every vector, cost, front, and uneven allocation."""
