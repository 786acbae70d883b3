"""From encoded columns to batches: order, candidates, padding, prefetching."""
