"""How large an image may be."""

# A few bytes can claim to be an image of any size; medium format has 150 million pixels.
MOST_PIXELS = 180_000_000
