"""Request logs on disk, their encoding, and the batches of a training run.

A data set passes through five steps:

1. A source writes a :class:`~cascaderank.data.request_log.RequestLog`.
2. :func:`~cascaderank.data.split.split_requests` divides its requests into training, validation
   and test requests.
3. :func:`~cascaderank.data.encoding.fit_schema` computes vocabularies and moments from the training
   requests.
4. :class:`~cascaderank.data.columns.EncodedLog` encodes the log as flat columns.
5. :class:`~cascaderank.data.loader.RequestLoader` pads the columns into batches.
"""
