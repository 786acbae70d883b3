"""Request logs on disk, their encoding, and the batches of a training run.

A data set passes through five steps:

1. A source writes a :class:`~cascaderank.data.log.request_log.RequestLog`.
2. :func:`~cascaderank.data.split.split_requests` divides its requests into training, validation
   and test requests.
3. :func:`~cascaderank.data.encoding.encoder.fit_schema` computes vocabularies and moments from the training
   requests.
4. :class:`~cascaderank.data.encoding.encoded_log.EncodedLog` encodes the log as flat columns.
5. :class:`~cascaderank.data.loading.loader.RequestLoader` pads the columns into batches.
"""
