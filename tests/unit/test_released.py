import csv
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ddnet.errors import DDNetError
from ddnet.models import count_parameters
from ddnet.models.released import load_released, translate

KEYS = Path(__file__).parent.parent / "data" / "released_keys_1branch.csv"


def published(branches: tuple[int, ...] = (3,)) -> dict[str, torch.Tensor]:
    """Random tensors under the published names; further branches repeat the first one's shapes."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for row in csv.DictReader(KEYS.open()):
        shape = [int(side) for side in row["shape"].split("x")]
        for branch, rcabs in enumerate(branches):
            key = row["key"]
            if key.startswith("layer"):
                stage, _, rest = key.split(".", 2)
                key = f"{stage}.{branch}.{rest}"
                parts = rest.split(".")
                if parts[:2] == ["0", "body"] and parts[3] == "body" and int(parts[2]) >= rcabs:
                    continue
                if parts[:2] == ["0", "body"] and parts[3] != "body":
                    key = f"{stage}.{branch}.0.body.{rcabs}.{parts[3]}"
            scale = 0.5 / max(1, torch.Size(shape[1:]).numel()) ** 0.5
            state[key] = torch.randn(shape, generator=generator) * scale
    return state


def save(path: Path, state: dict[str, torch.Tensor]) -> Path:
    torch.save({"state_dict": state, "epoch": 35}, path)
    return path


def reference(state: dict[str, torch.Tensor], bgr: torch.Tensor, disparity: torch.Tensor) -> torch.Tensor:
    """The 1-branch network written out on the published names, from the description alone."""

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = state[f"{name}.weight"]
        return F.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def group(x: torch.Tensor, name: str, rcabs: int) -> torch.Tensor:
        y = x
        for block in range(rcabs):
            z = conv(F.relu(conv(y, f"{name}.body.{block}.body.0")), f"{name}.body.{block}.body.2")
            gate = conv(F.adaptive_avg_pool2d(z, 1), f"{name}.body.{block}.body.3.conv_du.0")
            y = y + z * torch.sigmoid(conv(F.relu(gate), f"{name}.body.{block}.body.3.conv_du.2"))
        return x + conv(y, f"{name}.body.{rcabs}")

    def gru(h: torch.Tensor, x: torch.Tensor, name: str) -> torch.Tensor:
        z = torch.sigmoid(conv(torch.cat([h, x], 1), f"{name}.convz"))
        r = torch.sigmoid(conv(torch.cat([h, x], 1), f"{name}.convr"))
        return (1 - z) * h + z * torch.tanh(conv(torch.cat([r * h, x], 1), f"{name}.convq"))

    pyramid = [disparity]
    for _ in range(3):
        pyramid.append(F.interpolate(pyramid[-1], scale_factor=0.5, mode="bilinear"))
    depth = [group(F.relu(conv(d, "headdepth.0.0")), "headdepth.1.0", 1) for d in pyramid]
    head = F.relu(conv(bgr, "head.0"))
    e = [head]
    for stage in range(1, 5):
        e.append(F.max_pool2d(group(e[-1], f"layer{stage}.0.0", 3), 2))
    x = e[4]
    for stage, (size, skip) in enumerate(zip((64, 128, 256, 512), (None, 3, 2, 1), strict=True), start=5):
        x = x if skip is None else x + e[skip]
        x = gru(F.interpolate(group(x, f"layer{stage}.0.0", 3), scale_factor=2), depth[8 - stage], f"layerGRU{size}.0")
    return torch.sigmoid(conv(head + x, "tail_hard.0"))


def test_published_names_and_shapes_load_and_compute_what_the_description_says(tmp_path: Path) -> None:
    state = published()
    assert len(state) == 248
    model = load_released(save(tmp_path / "35_models.pth", state))
    assert count_parameters(model) == 2_646_308
    rgb, disparity = torch.rand(1, 3, 32, 48), torch.rand(1, 1, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(model(rgb, disparity), reference(state, rgb.flip(1), disparity).flip(1))


def test_the_published_two_branch_form_is_recognised(tmp_path: Path) -> None:
    model = load_released(save(tmp_path / "two.pth", published((2, 3))))
    assert model.branch_rcabs == (2, 3)
    assert count_parameters(model) == 4_686_436


def test_whatever_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    def refused(change: dict[str, torch.Tensor], drop: str = "", match: str = "") -> None:
        state = {key: value for key, value in (published() | change).items() if key != drop}
        with pytest.raises(DDNetError, match=match):
            load_released(save(tmp_path / "x.pth", state))

    refused({"connect.weight": torch.zeros(1)}, match=r"unknown key 'connect.weight'; download")
    refused({"head.0.weight": torch.zeros(64, 5, 3, 3)}, match=r"'head.0.weight' is \(64, 5, 3, 3\), expected")
    refused({}, drop="layerGRU64.0.convz.bias", match="1 are missing")
    (tmp_path / "page.pth").write_text("<html>quota exceeded</html>")
    with pytest.raises(DDNetError, match="not a readable PyTorch file"):
        load_released(tmp_path / "page.pth")
    assert translate("layer9.0.0.body.0.weight") is None
