"""Reading of TREC runs and judgments for the ``trec`` source."""
