"""The request log on disk: manifest, files, writing, validation, summary."""
