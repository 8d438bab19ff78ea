"""A model writes, describes an image, and answers a question about it.

python examples/07_captions.py [MODEL]
"""

import sys

from PIL import Image, ImageDraw

import db1

model = db1.load(sys.argv[1] if len(sys.argv) > 1 else "base")

print("text:", model.generate("In the beginning", max_tokens=20, temperature=0.7, seed=1))

image = Image.new("RGB", (64, 64), "white")
ImageDraw.Draw(image).ellipse((12, 12, 52, 52), fill="red")
print("caption:", model.caption(image, max_tokens=12))
print("answer:", model.answer(image, "what shape is in the image?"))
print("of three:", model.answer(image, "what colour is it?", answers=["red", "green", "blue"]))
