"""What every network must do; a new variant or fusion is tested by standing in variants.yaml or in the folder."""

import re

import pytest
import torch

from ddnet.cli.main import CONFIG
from ddnet.config import Complexity, Variant, load_variants
from ddnet.evaluation.complexity import measure_complexity
from ddnet.models import banded, build_model, count_parameters, initialise
from ddnet.models.ddnet import DDNet
from ddnet.registry import class_name, module_name, names, resolve

VARIANTS = load_variants(CONFIG / "variants.yaml")

# network.md: parameters to the unit; GMACs at 512 x 512, convolutions.
PARAMETERS = {
    "unet": 2_539_427, "unet_rcab": 2_085_411, "ddnet_1b": 2_646_308, "ddnet_2b": 4_090_948,
    "ddnet_2b_released": 4_686_436, "ddnet_3b": 6_131_076, "fusion_input": 2_085_987, "fusion_conv": 2_277_156,
    "fusion_conv_matched": 2_646_308,
}  # fmt: skip
GMACS = {
    "unet_rcab": 113.2, "ddnet_1b": 163.80, "ddnet_2b": 260.06, "ddnet_2b_released": 292.14, "ddnet_3b": 388.40,
    "fusion_input": 113.3, "fusion_conv": 131.7,
}  # fmt: skip
# thop counts a transposed 2 x 2 convolution of stride 2 four times; the paper's base row is such a count.
UNET_THOP_GMACS = 91.49
UNET_UP_GMACS = (128 * 128 * 4 * (32**2 + 64**2 + 128**2) + 64 * 64 * 4 * 256**2) / 1e9


def example(height: int = 32, width: int = 48) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.rand(2, 3, height, width, generator=generator),
        torch.rand(2, 1, height, width, generator=generator),
    )


def small(variant: Variant) -> torch.nn.Module:
    model = build_model(variant, 8, "sigmoid")
    initialise(model, 0)
    # A residual network starts as the identity; a last layer that does something is needed to see the rest.
    last = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    torch.nn.init.normal_(last.weight, std=0.1, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(params=VARIANTS.values(), ids=lambda variant: variant.name)
def variant(request: pytest.FixtureRequest) -> Variant:
    return request.param


def test_output_has_the_image_s_shape_and_range(variant: Variant) -> None:
    image, depth = example()
    with torch.no_grad():
        restored = small(variant).eval()(image, depth)
    assert restored.shape == image.shape
    assert restored.dtype == torch.float32
    assert restored.min() >= 0 and restored.max() <= 1


def test_bands_and_tiles_give_the_numbers_of_the_whole(variant: Variant) -> None:
    model = small(variant).eval()
    if not isinstance(model, DDNet):
        return
    image, depth = example(144, 464)  # 3 x 2 tiles and 9 bands at full size
    with torch.no_grad():
        torch.testing.assert_close(banded.banded(model, image, depth), model(image, depth), atol=2e-6, rtol=0)


def test_large_images_are_computed_in_bands(variant: Variant, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small(variant).eval()
    image, depth = example()
    expected = model(image, depth).detach()
    calls: list[str] = []
    monkeypatch.setattr(banded, "banded", lambda *_: calls.append("banded") or expected)
    with torch.no_grad():
        assert torch.equal(banded.forward(model, image, depth), expected)
        assert calls == []  # small
        monkeypatch.setattr(banded, "SMALLEST_BYTES", 0)
        banded.forward(model, image, depth)
        assert calls == ["banded"] * isinstance(model, DDNet)
    banded.forward(model, image, depth)  # with gradients, as when training
    assert len(calls) <= 1


def test_every_parameter_learns(variant: Variant) -> None:
    model = small(variant).train()
    image, depth = example()
    (model(image, depth) - 0.3).square().mean().backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert silent == []


def test_depth_matters_exactly_where_the_variant_says_so(variant: Variant) -> None:
    model = small(variant).eval()
    image, depth = example()
    with torch.no_grad():
        differs = not torch.equal(model(image, depth), model(image, 1 - depth))
    assert differs == model.uses_depth == variant.uses_depth
    if variant.uses_depth:
        with pytest.raises(ValueError, match="depth"):
            model(image, None)


def test_parameters_and_macs_are_those_of_the_design(variant: Variant) -> None:
    counted = measure_complexity(variant, Complexity())
    if variant.name in PARAMETERS:
        assert counted["params"] == PARAMETERS[variant.name]
    if variant.name in GMACS:
        assert counted["macs_g"] == pytest.approx(GMACS[variant.name], rel=0.01)
    if variant.arch == "unet":
        assert counted["flopcounter_macs_g"] + 3 * UNET_UP_GMACS == pytest.approx(UNET_THOP_GMACS, rel=1e-3)
    # Two independent counters agree; ptflops also counts the element-wise layers.
    assert counted["macs_g"] == pytest.approx(counted["flopcounter_macs_g"], rel=0.01)


def test_a_residual_network_starts_as_the_identity() -> None:
    image, depth = example()
    for name in ("unet", "ddnet_2b"):
        model = build_model(VARIANTS[name], 8, "residual")
        initialise(model, 0)
        torch.testing.assert_close(model.eval()(image, depth), image)


def test_same_seed_same_shared_weights() -> None:
    """Wherever a variant has the same layer as the 1-branch network, it starts from the same weights."""

    def weights(name: str, seed: int) -> dict[str, torch.Tensor]:
        model = build_model(VARIANTS[name], 8)
        initialise(model, seed)
        rcabs = getattr(model, "branch_rcabs", ())

        def by_rcabs(key: str) -> str:
            return re.sub(r"branches\.(\d+)", lambda match: f"branch{rcabs[int(match[1])]}", key)

        return {by_rcabs(key): value for key, value in model.state_dict().items()}

    reference = weights("ddnet_1b", 3)
    for name in ("unet_rcab", "ddnet_2b", "ddnet_3b", "fusion_conv", "fusion_input"):
        other = weights(name, 3)
        shared = [key for key in other if key in reference and other[key].shape == reference[key].shape]
        assert len(shared) > 100
        # Input fusion has a wider head, whose bias PyTorch draws from another range.
        exempt = {"head.bias"} if name == "fusion_input" else {key for key in shared if "cells" in key}
        assert all(torch.equal(other[key], reference[key]) for key in shared if key not in exempt)
    assert not torch.equal(weights("ddnet_1b", 4)["tail.weight"], reference["tail.weight"])


@pytest.mark.parametrize("name", names("fusion"))
def test_every_fusion_cell(name: str) -> None:
    cell = resolve("fusion", name)(16, 4)
    blur, depth = torch.rand(2, 16, 8, 12), torch.rand(2, 4, 8, 12)
    fused = cell(blur, depth)
    assert fused.shape == blur.shape
    assert torch.isfinite(fused).all()
    # Not 1 - depth: how far a depth is from the focus is the same in it.
    assert not torch.allclose(fused, cell(blur, depth.square()))
    assert count_parameters(cell) > 0
    assert module_name("fusion", name).endswith(name)
    assert type(cell).__name__ == class_name(name)
    assert type(cell).__doc__


def test_gru_is_the_convolutional_gru() -> None:
    """Against the textbook equations written out: h' = (1 - z) h + z q."""
    cell = resolve("fusion", "gru")(8, 2).cell
    h, x = torch.randn(1, 8, 5, 5), torch.randn(1, 2, 5, 5)
    z = torch.sigmoid(cell.convz(torch.cat([h, x], 1)))
    r = torch.sigmoid(cell.convr(torch.cat([h, x], 1)))
    q = torch.tanh(cell.convq(torch.cat([r * h, x], 1)))
    torch.testing.assert_close(cell(h, x), (1 - z) * h + z * q)
    torch.testing.assert_close(cell.gate(h, x), z)


def test_depth_encoder_and_groups_have_the_printed_sizes() -> None:
    from ddnet.models.blocks import RCAB, ResidualGroup
    from ddnet.models.ddnet import DepthEncoder
    from ddnet.models.fusion.gru import ConvGRU

    assert [count_parameters(ResidualGroup(64, n)) for n in (1, 2, 3)] == [111_364, 185_800, 260_236]
    assert count_parameters(RCAB(64)) == 74_436
    assert count_parameters(RCAB(16)) == 4_689
    assert count_parameters(DepthEncoder(1, 16, 1)) == 7_169
    assert count_parameters(ConvGRU(64, 16)) == 138_432
