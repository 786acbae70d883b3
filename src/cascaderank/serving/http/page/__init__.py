"""Files of the page at ``/``: those that end in .html, .js, .css and .svg are served."""
