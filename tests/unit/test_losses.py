from pathlib import Path

import pytest
import torch

from ddnet.config import Perceptual
from ddnet.errors import DDNetError
from ddnet.models.pretrained import load_trunk
from ddnet.training.losses import DeblurLoss, VggFeatures


def random_state() -> dict[str, torch.Tensor]:
    shapes = {0: (64, 3), 2: (64, 64), 5: (128, 64), 7: (128, 128), 10: (256, 128), 12: (256, 256), 14: (256, 256)}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for number, shape in shapes.items():
        state[f"features.{number}.weight"] = torch.randn(*shape, 3, 3, generator=generator) * 0.05
        state[f"features.{number}.bias"] = torch.zeros(shape[0])
    return state


def test_features_are_torchvision_s_conv3_3_before_its_relu(weights_folder: Path) -> None:
    import torchvision

    state = load_trunk("vgg16", weights_folder)
    reference = torchvision.models.vgg16(weights=None).features[:15].eval()
    reference.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if int(k.split(".")[1]) < 15})
    image = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        found = VggFeatures(state)(image)
        torch.testing.assert_close(found, reference(image))
    assert found.shape == (1, 256, 8, 8)
    assert found.min() < 0


def test_the_terms_are_l1_and_alpha_times_the_feature_mse() -> None:
    features = VggFeatures(random_state())
    restored, target = torch.rand(3, 3, 16, 16), torch.rand(3, 3, 16, 16)
    content, perceptual = DeblurLoss(Perceptual(weight=0.5), features)(restored, target)
    torch.testing.assert_close(content, (restored - target).abs().mean())
    torch.testing.assert_close(perceptual, 0.5 * (features(restored) - features(target)).square().mean())
    _, first = DeblurLoss(Perceptual(weight=0.5, crops=1), features)(restored, target)
    torch.testing.assert_close(first, 0.5 * (features(restored[:1]) - features(target[:1])).square().mean())
    _, bgr = DeblurLoss(Perceptual(weight=0.5, channel_order="bgr"), features)(restored, target)
    torch.testing.assert_close(
        bgr, 0.5 * (features(restored[:, [2, 1, 0]]) - features(target[:, [2, 1, 0]])).square().mean()
    )


def test_gradients_reach_the_image_and_not_the_trunk() -> None:
    features = VggFeatures(random_state())
    restored = torch.rand(1, 3, 16, 16, requires_grad=True)
    sum(DeblurLoss(Perceptual(), features)(restored, torch.rand(1, 3, 16, 16))).backward()  # type: ignore[union-attr]
    assert restored.grad is not None and restored.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in features.parameters())


def test_missing_or_foreign_weights_are_refused() -> None:
    with pytest.raises(DDNetError, match="needs VGG weights"):
        DeblurLoss(Perceptual(), None)
    state = random_state()
    state["features.5.weight"] = state["features.5.weight"][:100]
    with pytest.raises(DDNetError, match=r"features\.5\.weight is \(100, 64, 3, 3\)"):
        VggFeatures(state)
    del state["features.5.weight"]
    with pytest.raises(DDNetError, match=r"features\.5\.weight is missing"):
        VggFeatures(state)
