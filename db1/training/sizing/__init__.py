"""Parameters, memory and operations of a training, before it starts."""
