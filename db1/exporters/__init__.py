"""Writers of data sets in formats of others."""
