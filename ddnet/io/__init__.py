"""Files in and out: images, arrays, weights, and photographs as people have them."""
