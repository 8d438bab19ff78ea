"""A local web page around a run: chat, captions, questions about an image, acting."""
