"""Forms of NeuralSort whose memory is linear in the list.

The logits of NeuralSort are straight lines in the *pull* ``n + 1 - 2i`` of row i (:mod:`.lines`,
:mod:`.distances`). Three functions of all rows are computed without the matrix of the permutation:

- :mod:`.top_k_of_lines`: the top k. It sorts lists in chunks and selects one of three methods:
  :mod:`.small_logits` (power series, :mod:`.series`), :mod:`.streamed` (blocks of rows, logits of
  any size) or :mod:`.fused` (Triton kernels).
- :mod:`.cross_entropy_of_lines`: the cross-entropy of target ranks, and column sums.
- :mod:`.sum_of_lines`: weighted sums of softly sorted values.

The last two share :mod:`.line_blocks`. :mod:`.quadrature` replaces many rows by few points.
"""
