"""The embedded benchmark's scenes in Mitsuba 3, an independent path tracer with a thin-lens camera.

Every plane is a mesh that emits its texture: premultiplied colour as radiance, its alpha as opacity, so that what a
camera ray gathers is colour + (1 - alpha) * what lies behind. Nothing is lit, nothing reflects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddnet.data.embedded.optics import Lens, inverse_depth_of_plane
from ddnet.data.embedded.surfaces import SceneSpec, Surface, Vector
from ddnet.data.embedded.textures import FloatArray
from ddnet.errors import DDNetError
from ddnet.runtime.paths import install_command

VARIANT = "scalar_rgb"  # runs on any processor
BEYOND = 1.8  # how far outside the frame an endless plane goes on, in half frames


def load() -> Any:
    """The module `mitsuba`, set to `VARIANT`.

    Raises:
        DDNetError: it is not installed.
    """
    try:
        mitsuba: Any = import_module("mitsuba")
    except ImportError as error:
        raise DDNetError(f"mitsuba cannot be imported ({error}); install it: {install_command('verify')}") from None
    mitsuba.set_variant(VARIANT)
    mitsuba.set_log_level(mitsuba.LogLevel.Error)
    return mitsuba


def _outline(surface: Surface, half: float) -> Vector:
    """A surface's polygon in texture coordinates (K, 2); of an endless plane, what a frame of ±`half` sees and more."""
    if surface.outline is not None:
        return np.asarray(surface.outline, np.float64)
    reach = half * BEYOND
    rays = np.array([[-reach, -reach, 1], [reach, -reach, 1], [reach, reach, 1], [-reach, reach, 1]])
    inverse = rays @ inverse_depth_of_plane(surface.origin, surface.axis_s, surface.axis_t)
    if (inverse <= 0).any():
        raise DDNetError(f"surface {surface.name!r}: an endless plane must be seen in every corner of the frame")
    points = rays / inverse[:, None] - surface.origin
    axes = np.stack([surface.axis_s, surface.axis_t], axis=1)
    return np.asarray(np.linalg.lstsq(axes, points.T, rcond=None)[0].T)


def _write_mesh(path: Path, corners: Vector, texture: Vector) -> None:
    """A fan of triangles that faces the camera, as ASCII PLY with texture coordinates."""
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    if normal @ corners[0] > 0:  # an area emitter shines to one side only
        corners, texture = corners[::-1], texture[::-1]
    count = len(corners)
    lines = ["ply", "format ascii 1.0", f"element vertex {count}"]
    lines += [f"property float {name}" for name in ("x", "y", "z", "u", "v")]
    lines += [f"element face {count - 2}", "property list uchar int vertex_indices", "end_header"]
    lines += [" ".join(f"{value:.9g}" for value in row) for row in np.hstack([corners, texture])]
    lines += [f"3 0 {k} {k + 1}" for k in range(1, count - 1)]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _shape(mi: Any, surface: Surface, half: float, file: Path) -> dict[str, Any]:
    polygon = _outline(surface, half)
    corners = surface.origin + polygon[:, :1] * surface.axis_s + polygon[:, 1:] * surface.axis_t
    _write_mesh(file, corners, polygon)

    def bitmap(values: NDArray[np.float32]) -> dict[str, Any]:
        wrap = "mirror" if surface.tiled else "clamp"
        image = mi.Bitmap(np.ascontiguousarray(values))
        return {"type": "bitmap", "bitmap": image, "raw": True, "filter_type": "bilinear", "wrap_mode": wrap}

    black = {"type": "diffuse", "reflectance": {"type": "rgb", "value": 0.0}}
    opacity = bitmap(surface.texture[..., 3:])
    return {
        "type": "ply", "filename": str(file), "face_normals": True,
        "emitter": {"type": "area", "radiance": bitmap(surface.texture[..., :3])},
        "bsdf": {"type": "mask", "opacity": opacity, "nested": black},
    }  # fmt: skip


def _camera(mi: Any, lens: Lens, size: int, samples: int, pinhole: bool) -> dict[str, Any]:
    field_of_view = 2 * math.degrees(math.atan(size / 2 / lens.focal_px(size)))
    camera = {
        "type": "perspective" if pinhole else "thinlens", "fov": field_of_view, "fov_axis": "x",
        "near_clip": 0.01, "far_clip": 1000.0,
        "to_world": mi.ScalarTransform4f().look_at(origin=[0, 0, 0], target=[0, 0, 1], up=[0, -1, 0]),
        "film": {
            "type": "hdrfilm", "width": size, "height": size, "pixel_format": "rgb", "component_format": "float32",
            "rfilter": {"type": "box"},
        },
        "sampler": {"type": "multijitter", "sample_count": samples},
    }  # fmt: skip
    return camera if pinhole else camera | {"aperture_radius": lens.aperture_m / 2, "focus_distance": lens.focus_m}


@contextmanager
def scene_of(mi: Any, spec: SceneSpec) -> Iterator[Any]:
    """The surfaces of a scene, loaded."""
    if spec.lens.aperture != "disc":
        raise DDNetError(
            f"scene of seed {spec.seed}: Mitsuba's lens is round, this one is a {spec.lens.aperture}; use another"
        )
    half = spec.size / 2 / spec.lens.focal_px(spec.size)
    with TemporaryDirectory() as folder:
        shapes = {
            f"surface_{number}": _shape(mi, surface, half, Path(folder, f"{number}.ply"))
            for number, surface in enumerate(spec.surfaces)
        }
        # As many bounces as a ray can pass surfaces; no path is ended at random.
        integrator = {"type": "path", "max_depth": len(shapes) + 2, "rr_depth": 1000}
        yield mi.load_dict({"type": "scene", "integrator": integrator, **shapes})


def render(mi: Any, scene: Any, spec: SceneSpec, samples: int, seed: int, pinhole: bool = False) -> FloatArray:
    """Linear light, (H, W, 3) float32, of a loaded scene through the scene's lens or a pinhole at its centre."""
    sensor = mi.load_dict(_camera(mi, spec.lens, spec.size, samples, pinhole))
    return np.array(mi.render(scene, sensor=sensor, spp=samples, seed=seed), np.float32)
