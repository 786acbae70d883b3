"""The data room: request logs on disk, what is learnt from them, and the batches made of them.

The way of a data set: a source writes a :class:`~cascaderank.data.request_log.RequestLog`,
:func:`~cascaderank.data.split.split_requests` divides its requests,
:func:`~cascaderank.data.encoding.fit_schema` learns vocabularies and moments from the training
requests, :class:`~cascaderank.data.columns.EncodedLog` turns the log into flat columns, and
:class:`~cascaderank.data.loader.RequestLoader` pads them into batches.
"""
