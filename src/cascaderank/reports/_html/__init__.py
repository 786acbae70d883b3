"""Reports as one HTML file: pages, their chapters, sections, tables and pictures."""
