"""What DefocusGAN's training minimises besides the picture's own error: a critic's word, which learns along.

Zhai et al., AAAI 2023; written from a description of its published code. The critic is a PatchGAN (Isola et al. 2017)
taught as a Wasserstein GAN with a gradient penalty (Gulrajani et al. 2017); as there, the gradient's norm is taken over
the channels of every single pixel, not over the picture. Left out is what needs a map of the blur, which is measured
with a dual-pixel sensor: a weighted term of the critic's loss, and the masks of the generator's branches at first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from baselines.common.objective import Objective

EPOCHS = 91
CRITIC_FROM, ADVERSARIAL_FROM = 5 / EPOCHS, 10 / EPOCHS  # shares of the training: its epochs 6 and 11
CRITIC_STEPS = 2
CRITIC_LR, CRITIC_HALVED = 2e-4, (30 / EPOCHS, 60 / EPOCHS, 90 / EPOCHS)  # the generator's published schedule
PENALTY = 10.0
SLOPE = 0.2


class Critic(nn.Sequential):
    """Higher for sharp than for restored pictures, for every patch: (B, 3, H, W) to (B, 1, about H/8, about W/8).

    2,764,737 parameters at width 64.

    Args:
        width: channels after the first layer.
    """

    def __init__(self, width: int) -> None:
        w = width
        layers: list[nn.Module] = [nn.Conv2d(3, w, 4, stride=2, padding=2), nn.LeakyReLU(SLOPE)]
        for inputs, outputs, stride in ((w, 2 * w, 2), (2 * w, 4 * w, 2), (4 * w, 8 * w, 1)):
            convolution = nn.Conv2d(inputs, outputs, 4, stride, padding=2)
            layers += [convolution, nn.InstanceNorm2d(outputs), nn.LeakyReLU(SLOPE)]
        super().__init__(*layers, nn.Conv2d(8 * w, 1, 4, padding=2))


def gradient_penalty(critic: nn.Module, sharp: Tensor, restored: Tensor, share: Tensor) -> Tensor:
    """Mean squared deviation from 1 of the norm, over a pixel's channels, of the gradient of the critic's sum.

    Args:
        sharp, restored: (B, 3, H, W), without a gradient of their own.
        share: of `sharp` in the mixture at which the gradient is taken, in [0, 1].
    """
    mixed = (share * sharp + (1.0 - share) * restored).requires_grad_()
    [gradient] = torch.autograd.grad(critic(mixed).sum(), mixed, create_graph=True)
    return torch.square(torch.linalg.vector_norm(gradient, dim=1) - 1.0).mean()


class DefocusganObjective(Objective):
    """Adds `adversarial`: minus the mean of the critic of the restored picture, 0 until the 11th of 91 parts.

    The critic sees pictures in the network's convention. It learns from the 6th part on, two steps before each of the
    generator, with an optimiser of its own whose learning rate is the published one. The saved state has all of it.

    Args:
        critic_width: channels after the critic's first layer; None: the generator's, as in the published system.
    """

    own_terms = frozenset({"adversarial"})

    def __init__(
        self,
        network: nn.Module,
        loss: Mapping[str, float],
        perceptual: Callable[[Tensor, Tensor], Tensor] | None,
        to_rgb: Callable[[Tensor], Tensor],
        critic_width: int | None = None,
    ) -> None:
        super().__init__(network, loss, perceptual, to_rgb)
        self.critic: Critic | None = None
        self._seen: tuple[Tensor, Tensor] | None = None  # a batch and what the network made of it, for `terms`
        if "adversarial" in self.weights:
            head = network.get_submodule("head")
            assert isinstance(head, nn.Conv2d)
            self.critic = Critic(critic_width or head.out_channels).requires_grad_(False)
            self.optimiser = torch.optim.Adam(self.critic.parameters(), lr=CRITIC_LR)

    def before_step(self, image: Tensor, target: Tensor, progress: float) -> None:
        """Two steps of the critic, once it is its turn."""
        if self.critic is None or progress < CRITIC_FROM:
            return
        for group in self.optimiser.param_groups:
            group["lr"] = CRITIC_LR * 0.5 ** sum(progress >= share for share in CRITIC_HALVED)
        restored = self.network(image)
        self._seen = image, restored
        self.critic.requires_grad_(True)
        for _ in range(CRITIC_STEPS):
            self.optimiser.zero_grad(set_to_none=True)
            self.critic_loss(restored.detach(), target).backward()
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        self.critic.requires_grad_(False)

    def critic_loss(self, restored: Tensor, target: Tensor) -> Tensor:
        """What the critic minimises: mean of restored minus sharp, and 10 times the gradient penalty."""
        assert self.critic is not None
        share = torch.rand(()).to(restored.device)  # one for the batch, from torch's CPU stream
        distance = (self.critic(restored) - self.critic(target)).mean()
        return distance + PENALTY * gradient_penalty(self.critic, target, restored, share)

    def terms(self, image: Tensor, target: Tensor, progress: float, views: Tensor | None = None) -> dict[str, Tensor]:
        """`adversarial`, and those of every picture."""
        seen, self._seen = self._seen, None
        restored = seen[1] if seen is not None and seen[0] is image else self.network(image)
        found = self.picture_terms(restored, target)
        if self.critic is not None:
            judged = self.critic(restored) if progress >= ADVERSARIAL_FROM else 0.0 * restored
            found["adversarial"] = -judged.mean()
        return found

    def get_extra_state(self) -> dict[str, Any]:
        """State of the critic's optimiser; nothing where there is none."""
        return {} if self.critic is None else self.optimiser.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Take what `get_extra_state` gave."""
        if self.critic is not None:
            self.optimiser.load_state_dict(state)
