"""db1: a generalist agent in one TransformerXL decoder (text, images, control)."""

__version__ = "0.1.0"
