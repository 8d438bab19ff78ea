"""Gives the tests of this folder a small run with its data."""

from toy_evaluation import data_root, run_folder, tokenizer  # noqa: F401
