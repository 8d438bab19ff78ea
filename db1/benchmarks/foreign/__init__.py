"""Sources of `db1 import` in the formats of others, written for measurements and tests."""
