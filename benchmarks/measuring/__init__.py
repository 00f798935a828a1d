"""What `quality.py` is made of: series and their runs, what is measured, and the rows of its table."""
