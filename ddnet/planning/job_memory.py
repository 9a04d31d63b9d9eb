"""Main memory that jobs ask Snakemake or a cluster for, in MB: upper bounds from the preset's sizes.

The constants are rounded up from measured peaks (manifests of runs, `ddnet bench step|inference`); a test holds
every job of the `smoke` preset to its bound.
"""

from __future__ import annotations

from contextlib import suppress

from PIL import Image

from ddnet.config import Settings, Variant

SMALL = 1000  # a job with torch, on small images
FEATURES = 60  # float32 features that a training step of one branch keeps, in units of width x batch x crop
RESTORING = 6  # full-size float32 features of the network's width that exist at once while an image is restored
MEASURING = 700  # bytes per pixel of LPIPS
SYSTEM_WIDTH = 64
DPDD_PIXELS = 2320 * 1536  # RealDOF's largest


def image_pixels(settings: Settings) -> int:
    """Pixels of the largest image; of a user's own folder by the files' headers."""
    data = settings.data
    if data.kind != "folder":
        return data.size**2 if data.kind == "embedded" else DPDD_PIXELS
    sizes = [DPDD_PIXELS]
    for picture in data.pictures():
        with (
            suppress(Exception),  # of many types; what is no picture is refused when it is indexed
            Image.open(picture) as image,
        ):
            sizes.append(image.width * image.height)
    return max(sizes)


def training_mb(settings: Settings, variant: Variant | None, pixels: int, gpu: bool) -> int:
    """Of training a variant, or a compared system; on a GPU the features are in its own memory."""
    spec = settings.training
    crops = 0 if gpu else spec.batch * spec.patches.size**2
    branches, width = (len(variant.branches), settings.model.width) if variant else (2, SYSTEM_WIDTH)
    validation = 0 if gpu else RESTORING * 4 * width * pixels
    return SMALL + (FEATURES * 4 * branches * width * crops + validation) // 10**6


def evaluation_mb(settings: Settings, pixels: int, gpu: bool) -> int:
    """Of restoring and measuring the test sets."""
    features = 0 if gpu else RESTORING * 4 * max(settings.model.width, SYSTEM_WIDTH)
    return SMALL + (features + MEASURING) * pixels // 10**6


def decoding_mb(pixels: int) -> int:
    """Of a job that decodes images, several at a time."""
    return SMALL + 200 * pixels // 10**6
