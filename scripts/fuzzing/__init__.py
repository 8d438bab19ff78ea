"""What `scripts/fuzz.py` throws at db1, and how it judges what comes back."""
