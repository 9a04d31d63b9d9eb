"""Evaluation: whole images, one row each, and means that follow from the rows."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from ddnet.data.index import Scene, describe_pair
from ddnet.errors import DDNetError
from ddnet.evaluation.evaluate import (
    ModelRestorer,
    evaluate,
    gate_maps,
    write_evaluation,
    write_gate_maps,
    write_per_image,
    write_timing,
)
from ddnet.evaluation.metrics import build_metrics
from ddnet.evaluation.metrics._base import Metric
from ddnet.io.images import FloatArray, read_image, write_image
from ddnet.io.tensors import best_device
from ddnet.models.ddnet import DDNet
from ddnet.report.collect import read_images

COLUMNS = "dataset,scene,location,psnr,psnr_8bit,ssim,mae,lpips_alex,lpips_squeeze"
H, W = 21, 37


class Identity:
    """The image itself: what the baseline `blurred` does."""

    def restore(self, image: FloatArray, depth: FloatArray | None) -> FloatArray:
        return image


class Constant:
    """Always the same array."""

    def __init__(self, output: FloatArray) -> None:
        self.output = output

    def restore(self, image: FloatArray, depth: FloatArray | None) -> FloatArray:
        return self.output


def no_depth(_: Scene) -> None:
    return None


def flat_depth(_: Scene) -> FloatArray:
    return np.full((H, W), 0.25, np.float32)


@pytest.fixture
def scenes(tmp_path: Path) -> list[Scene]:
    """Two datasets, five scenes, two locations; targets are noise, images the same with more of it."""
    rng = np.random.default_rng(11)
    made = []
    for number, (dataset, location) in enumerate(
        [
            ("real", "indoor"),
            ("real", "outdoor"),
            ("real", "indoor"),
            ("other", "outdoor"),
            ("other", "outdoor"),
        ]
    ):
        folder = tmp_path / "data" / str(number)
        target = rng.random((H, W, 3), np.float32)
        image = np.clip(target + rng.normal(0, 0.02 * (number + 1), target.shape), 0, 1).astype(np.float32)
        write_image(folder / "target.png", target)
        write_image(folder / "image.png", image)
        files = folder / "image.png", folder / "target.png"
        made.append(describe_pair(dataset, "test", f"s{number}", location, *files, None))
    return made


@pytest.fixture
def metrics(tmp_path: Path) -> dict[str, Metric]:
    return build_metrics(["psnr", "psnr_8bit", "ssim", "mae"], tmp_path)[0]


def test_rows_follow_the_scenes_and_the_metrics(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path
) -> None:
    rows = evaluate(Identity(), scenes, no_depth, metrics, tmp_path / "run", save="none")
    assert [(row["dataset"], row["scene"], row["location"]) for row in rows] == [
        (scene.dataset, scene.scene, scene.location) for scene in scenes
    ]
    for row, scene in zip(rows, scenes, strict=True):
        image, target = read_image(scene.image), read_image(scene.target)
        mse = np.mean((image.astype(np.float64) - target) ** 2)
        assert row["psnr"] == pytest.approx(10 * math.log10(1 / mse), rel=1e-7)
        assert row["seconds"] >= 0
    assert not (tmp_path / "run/restored").exists()


def test_csv_has_the_agreed_columns_and_empty_cells_for_what_is_unavailable(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path
) -> None:
    rows = evaluate(Identity(), scenes, no_depth, metrics, tmp_path, save="none")
    write_per_image(tmp_path / "per_image.csv", rows)
    text = (tmp_path / "per_image.csv").read_text(encoding="utf-8")
    assert text.splitlines()[0] == COLUMNS
    read = list(csv.DictReader(text.splitlines()))
    assert {row["lpips_alex"] for row in read} == {""}
    assert [float(row["psnr"]) for row in read] == [row["psnr"] for row in rows]


def test_the_same_restoration_gives_the_same_bytes_and_times_stand_apart(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path
) -> None:
    for name in ("first", "second"):
        rows = evaluate(Identity(), scenes, no_depth, metrics, tmp_path / name, save="none")
        write_per_image(tmp_path / name / "per_image.csv", rows)
        write_timing(tmp_path / name / "timing.csv", rows)
    first, second = ((tmp_path / name / "per_image.csv").read_bytes() for name in ("first", "second"))
    assert first == second and b"seconds" not in first
    both = read_images(tmp_path / "second" / "per_image.csv")
    assert list(both["seconds"]) == [row["seconds"] for row in rows]
    (tmp_path / "second" / "timing.csv").unlink()
    assert read_images(tmp_path / "second" / "per_image.csv")["seconds"].isna().all()


def test_means_agree_with_the_csv(scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    rows = evaluate(Identity(), scenes, no_depth, metrics, tmp_path, save="none")
    write_per_image(tmp_path / "per_image.csv", rows)
    reasons = {"lpips_alex": "no weights"}
    write_evaluation(tmp_path / "evaluation.json", rows, reasons, {"depth_source": "none"})
    result = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    with (tmp_path / "per_image.csv").open(encoding="utf-8") as stream:
        read = list(csv.DictReader(stream))
    for name in metrics:
        for dataset in ("real", "other"):
            group = [row for row in read if row["dataset"] == dataset]
            mean = math.fsum(float(row[name]) for row in group) / len(group)
            assert result["metrics"][dataset][name] == pytest.approx(mean, rel=1e-12)
            for location, means in result["by_location"][dataset].items():
                part = [float(row[name]) for row in group if row["location"] == location]
                assert means[name] == pytest.approx(math.fsum(part) / len(part), rel=1e-12)
    assert set(result["by_location"]["real"]) == {"indoor", "outdoor"}
    assert set(result["metrics"]["real"]) == set(metrics)
    assert result["images"] == {"real": 3, "other": 2}
    assert result["unavailable"] == reasons and result["depth_source"] == "none"
    with pytest.raises(DDNetError, match="reserved"):
        write_evaluation(tmp_path / "evaluation.json", rows, reasons, {"metrics": {}})


def test_perfect_restoration_is_infinite_in_file_and_mean(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path
) -> None:
    sharp = scenes[0].target, scenes[0].target_sha256
    scene = dataclasses.replace(scenes[0], image=sharp[0], image_sha256=sharp[1])
    rows = evaluate(Identity(), [scene], no_depth, metrics, tmp_path, save="none")
    write_per_image(tmp_path / "per_image.csv", rows)
    assert ",inf,inf,1.0,0.0,," in (tmp_path / "per_image.csv").read_text(encoding="utf-8")
    assert write_evaluation(tmp_path / "e.json", rows, {})["metrics"]["real"]["psnr"] == math.inf


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ("all", ["other/s3", "other/s4", "real/s0", "real/s1", "real/s2"]),
        ("panels", ["other/s4", "real/s1"]),
        ("none", []),
    ],
)
def test_saves_what_was_asked_for_at_16_bits(
    save: str, expected: list[str], scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path
) -> None:
    panels = {"real/test/s1", "other/test/s4"}
    evaluate(Identity(), scenes, no_depth, metrics, tmp_path, save=save, panels=panels)  # type: ignore[arg-type]
    files = sorted((tmp_path / "restored").rglob("*.png"))
    assert [str(path.relative_to(tmp_path / "restored").with_suffix("")) for path in files] == expected
    for path in files:
        assert np.array_equal(read_image(path), read_image(scenes[int(path.stem[1:])].image))


def test_output_is_clipped_but_not_quantised(scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    target = read_image(scenes[0].target)
    output = target + np.float32(1e-6)  # below the last of 16 bits
    output[0, 0] = 7.0
    (row,) = evaluate(Constant(output), scenes[:1], no_depth, metrics, tmp_path, save="none")
    assert 0 < row["mae"] < (1e-6 + 3 / (3 * H * W))
    assert math.isfinite(row["psnr"])


def test_nothing_is_ever_resized(scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    small = Constant(np.zeros((H - 1, W, 3), np.float32))
    with pytest.raises(DDNetError, match=r"real/test/s0: restored is \(20, 37, 3\), target \(21, 37, 3\)"):
        evaluate(small, scenes, no_depth, metrics, tmp_path)
    stale = dataclasses.replace(scenes[1], height=H + 1)
    with pytest.raises(DDNetError, match=r"real/test/s1: .*the index says"):
        evaluate(Identity(), [stale], no_depth, metrics, tmp_path)


def test_nan_names_the_scene(scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    broken = Constant(np.full((H, W, 3), np.nan, np.float32))
    with pytest.raises(DDNetError, match="real/test/s0: restored contains 2331 NaN"):
        evaluate(broken, scenes, no_depth, metrics, tmp_path)


def test_bad_requests(scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    with pytest.raises(DDNetError, match="real/s0 comes twice"):
        evaluate(Identity(), [scenes[0], dataclasses.replace(scenes[0], split="val")], no_depth, metrics, tmp_path)
    with pytest.raises(DDNetError, match="no scenes"):
        evaluate(Identity(), [], no_depth, metrics, tmp_path)
    with pytest.raises(DDNetError, match="save is 'some'"):
        evaluate(Identity(), scenes, no_depth, metrics, tmp_path, save="some")  # type: ignore[arg-type]


def test_too_little_gpu_memory_names_the_image_and_its_size(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 2.00 GiB")

    restorer = Identity()
    monkeypatch.setattr(restorer, "restore", no_memory)
    message = r"0/image\.png: 37x21 px do not fit into the GPU's memory; .*CUDA_VISIBLE_DEVICES= \(empty\)"
    with pytest.raises(DDNetError, match="real/test/s0: .*" + message) as caught:
        evaluate(restorer, scenes, no_depth, metrics, tmp_path)
    assert "\n" not in str(caught.value)
    model = DDNet(width=8, branches=(1,), fusion="gru")
    monkeypatch.setattr(model.head, "forward", no_memory)
    with pytest.raises(DDNetError, match=message):
        write_gate_maps(model, scenes[:1], flat_depth, tmp_path)


def test_a_gpu_computes_in_full_precision_and_only_while_evaluating(
    scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    restorer = Identity()
    monkeypatch.setattr(restorer, "restore", lambda image, _: seen.append(torch.backends.cudnn.allow_tf32) or image)
    before = torch.backends.cudnn.allow_tf32
    evaluate(restorer, scenes[:1], no_depth, metrics, tmp_path)
    assert seen == [False] and before and torch.backends.cudnn.allow_tf32


def test_the_model_moves_to_the_device_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = DDNet(width=8, branches=(1,), fusion="none")
    assert next(ModelRestorer(model).model.parameters()).device.type == "cpu"
    assert next(ModelRestorer(model, torch.device("meta")).model.parameters()).device.type == "meta"
    for there, kind in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert best_device().type == kind


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads Linux's record of memory")
def test_a_photograph_of_dpdd_takes_less_than_five_feature_maps_of_memory() -> None:
    code = """
import numpy as np, torch
from ddnet.evaluation.evaluate import ModelRestorer
from ddnet.models.ddnet import DDNet
torch.set_num_threads(2)
def peak_kib():  # of this program alone: getrusage would also count the test run that started it
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
restorer = ModelRestorer(DDNet(width=16))
image, depth = np.full((1120, 1680, 3), 0.5, np.float32), np.full((1120, 1680), 0.5, np.float32)
restorer.restore(image[:64, :64], depth[:64, :64])
before = peak_kib()
assert restorer.restore(image, depth).shape == image.shape
print((peak_kib() - before) * 1024 / (16 * 1120 * 1680 * 4))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    # At width 64, 0.48 GB each for DPDD and 0.91 GB for RealDOF.
    assert 2 < float(done.stdout) < 5


class Probe(nn.Module):
    """Remembers what it was given and returns the image, stretched beyond [0, 1]."""

    def __init__(self, uses_depth: bool, multiple: int) -> None:
        super().__init__()
        self.uses_depth, self.multiple = uses_depth, multiple
        self.seen: tuple[torch.Tensor, torch.Tensor | None] | None = None

    def forward(self, image: torch.Tensor, depth: torch.Tensor | None) -> torch.Tensor:
        assert not self.training and torch.is_inference_mode_enabled()
        self.seen = image, depth
        return image * 3 - 1


@pytest.mark.parametrize(("multiple", "padded"), [(16, (32, 48)), (8, (24, 40)), (1, (H, W))])
def test_model_gets_mirrored_padding_and_gives_the_crop(multiple: int, padded: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image, depth = rng.random((H, W, 3), np.float32), rng.random((H, W), np.float32)
    probe = Probe(True, multiple)
    restored = ModelRestorer(probe).restore(image, depth)
    assert np.allclose(restored, np.clip(image * 3 - 1, 0, 1)) and restored.dtype == np.float32
    assert probe.seen is not None and probe.seen[1] is not None
    bottom, right = padded[0] - H, padded[1] - W
    assert np.array_equal(probe.seen[1][0, 0].numpy(), np.pad(depth, ((0, bottom), (0, right)), mode="reflect"))
    expected = np.pad(image, ((0, bottom), (0, right), (0, 0)), mode="reflect")
    assert np.array_equal(probe.seen[0][0].permute(1, 2, 0).numpy(), expected)
    assert probe.seen[0].is_contiguous(memory_format=torch.channels_last)


def test_depth_goes_to_models_that_use_it_and_must_fit() -> None:
    image, depth = np.zeros((H, W, 3), np.float32), np.zeros((H, W), np.float32)
    probe = Probe(False, 16)
    ModelRestorer(probe).restore(image, depth)
    assert probe.seen is not None and probe.seen[1] is None
    with pytest.raises(DDNetError, match="Probe needs a depth map"):
        ModelRestorer(Probe(True, 16)).restore(image, None)
    with pytest.raises(DDNetError, match=r"the depth map is \(20, 37\)"):
        ModelRestorer(Probe(True, 16)).restore(image, depth[1:])


class DepthGate(nn.Module):
    """A cell whose gate is the mean of its depth features, so that its map is known."""

    def gate(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return depth.expand(-1, 3, -1, -1) * torch.tensor([0.5, 1.0, 1.5]).view(1, 3, 1, 1)

    def forward(self, blur: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        return blur


class Pyramid(nn.Module):
    """Calls its cells on ever finer copies of the inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.cells = nn.ModuleList(nn.ModuleList(DepthGate() for _ in range(4)) for _ in range(2))

    def forward(self, image: torch.Tensor, depth: torch.Tensor) -> torch.Tensor:
        for branch in self.cells:
            assert isinstance(branch, nn.ModuleList)
            for cell, scale in zip(branch, (8, 4, 2, 1), strict=True):
                cell(image[..., ::scale, ::scale], depth[..., ::scale, ::scale])
        return image


def test_gate_maps_are_channel_means_without_the_padding() -> None:
    rng = np.random.default_rng(5)
    image, depth = rng.random((H, W, 3), np.float32), rng.random((H, W), np.float32)
    model = Pyramid()
    maps = gate_maps(model, image, depth)
    assert list(maps) == ["z_eighth", "z_quarter", "z_half", "z_full"]
    for name, scale in zip(maps, (8, 4, 2, 1), strict=True):
        assert np.allclose(maps[name], depth[::scale, ::scale], atol=1e-6) and maps[name].dtype == np.float32
    assert not any(module._forward_pre_hooks for module in model.modules()), "hooks must not outlive the call"


def test_gate_maps_of_the_network(scenes: list[Scene], tmp_path: Path) -> None:
    torch.manual_seed(0)
    files = write_gate_maps(DDNet(width=8, branches=(1, 1), fusion="gru"), scenes[:1], flat_depth, tmp_path)
    assert files == [tmp_path / "gates/real/s0.npz"]
    with np.load(files[0]) as maps:
        shapes = {name: maps[name].shape for name in maps}
        assert shapes == {"z_eighth": (3, 5), "z_quarter": (6, 10), "z_half": (11, 19), "z_full": (H, W)}
        assert all(maps[name].min() > 0 and maps[name].max() < 1 for name in maps)


@pytest.mark.parametrize("fusion", ["none", "input", "conv"])
def test_networks_without_gates_have_no_maps(fusion: str, scenes: list[Scene], tmp_path: Path) -> None:
    model = DDNet(width=8, branches=(1,), fusion=fusion)
    assert gate_maps(model, read_image(scenes[0].image), flat_depth(scenes[0])) == {}
    assert write_gate_maps(model, scenes[:1], flat_depth, tmp_path) == []
    assert not (tmp_path / "gates").exists()


@pytest.mark.parametrize("fusion", ["none", "gru"])
def test_network_end_to_end(fusion: str, scenes: list[Scene], metrics: dict[str, Metric], tmp_path: Path) -> None:
    torch.manual_seed(0)
    restorer = ModelRestorer(DDNet(width=8, branches=(1,), fusion=fusion))
    depths = no_depth if fusion == "none" else flat_depth
    rows = evaluate(restorer, scenes[:2], depths, metrics, tmp_path, save="all")
    assert [math.isfinite(row["psnr"]) for row in rows] == [True, True]
    assert read_image(tmp_path / "restored/real/s1.png").shape == (H, W, 3)
