"""Index of samples: shuffles, blends and their tables, in C++ with NumPy references."""
