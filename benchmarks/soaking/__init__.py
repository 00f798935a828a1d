"""What `soak.py` is made of: one module for a kind of trouble, each with functions that return a Row."""
