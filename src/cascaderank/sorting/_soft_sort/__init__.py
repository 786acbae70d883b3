"""Forms of SoftSort whose memory is linear in the list.

With scores x in descending order, the entries of a row are ``exp(-|x_i - x_j|) / Z_i``. The
exponential of a distance is a product over the gaps between neighbours, so all sums over rows or
columns are sums from both ends that decay from score to score (:mod:`.decaying_sums`).
:mod:`.top_k_of_distances` computes the top k, :mod:`.cross_entropy_of_distances` the cross-entropy
of target ranks and the column sums.
"""
