"""Request logs on disk, their encoding, and the batches that stages read.

- ``sources`` converts logs of other formats into a
  :class:`~cascaderank.data.log.request_log.RequestLog`; ``funnel`` simulates one.
- ``log`` is the format on disk: manifest, Parquet parts, validation, summary.
- :func:`~cascaderank.data.split.split_requests` divides the requests into training, validation and
  test requests; ``labels`` and ``domains`` compute every training target.
- ``encoding`` fits a schema to the training requests
  (:func:`~cascaderank.data.encoding.fitting.fit_schema`) and encodes the log as flat columns
  (:class:`~cascaderank.data.encoding.encoded_log.EncodedLog`).
- ``loading`` orders and samples them and pads them into batches
  (:class:`~cascaderank.data.loading.loader.RequestLoader`).
"""
