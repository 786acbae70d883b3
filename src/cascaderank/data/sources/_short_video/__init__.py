"""Tables and requests of KuaiRand and KuaiRec for the ``kuairand`` and ``kuairec`` sources."""
