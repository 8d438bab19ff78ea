"""A policy server: many sessions of many clients, their steps batched into one forward pass."""
