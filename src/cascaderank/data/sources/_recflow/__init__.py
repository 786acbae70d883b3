"""Reading of RecFlow files for the ``recflow`` source."""
