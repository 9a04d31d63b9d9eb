"""DDNet: a branched residual U-Net whose decoder is guided by depth (paper section 2, released form by default).

head -> per branch: 4 x [ResidualGroup, MaxPool] -> 4 x [ResidualGroup, nearest x2, fusion with depth] -> sum -> output.
Where the paper's wording and the authors' released code disagree, the released form is the default, because only it
reproduces the printed sizes; the arguments of `DDNet` switch to the paper's wording.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import nn

from ddnet.errors import DDNetError
from ddnet.models.blocks import ResidualGroup, conv3x3
from ddnet.registry import resolve

SCALES = 4


class DepthEncoder(nn.Module):
    """Depth map to C2 feature channels; one instance serves every scale and branch (paper section 2.3).

    7,169 parameters in the released form (1 input channel, 16 output channels, 1 RCAB).
    """

    def __init__(self, in_channels: int, channels: int, rcabs: int) -> None:
        super().__init__()
        self.conv = conv3x3(in_channels, channels)
        self.group = ResidualGroup(channels, rcabs)

    def forward(self, depth: torch.Tensor) -> torch.Tensor:
        """(B, in_channels, H, W) in [0, 1] to (B, channels, H, W)."""
        return self.group(torch.relu(self.conv(depth)))


class Branch(nn.Module):
    """One U-shaped branch: encoder and decoder of four stages, channels constant, skips added.

    Args:
        channels: C1.
        rcabs: RCABs per residual group.
        cells: four fusion cells for 1/8, 1/4, 1/2 and full size, or none for a branch without depth.
    """

    def __init__(self, channels: int, rcabs: int, cells: Sequence[nn.Module]) -> None:
        super().__init__()
        self.channels = channels
        self.encoder = nn.ModuleList(ResidualGroup(channels, rcabs) for _ in range(SCALES))
        self.decoder = nn.ModuleList(ResidualGroup(channels, rcabs) for _ in range(SCALES))
        self.cells = nn.ModuleList(cells)

    def forward(self, features: torch.Tensor, depths: Sequence[torch.Tensor]) -> torch.Tensor:
        """Head features (B, C1, H, W) and depth features from full to 1/8 size to (B, C1, H, W)."""
        skips = []
        x = features
        for group in self.encoder:
            x = F.max_pool2d(group(x), 2)
            skips.append(x)
        skips.pop()  # the bottleneck itself is no skip
        for stage, group in enumerate(self.decoder):
            if stage:
                x = x + skips.pop()
            x = F.interpolate(group(x), scale_factor=2, mode="nearest")
            if self.cells:
                x = self.cells[stage](x, depths[SCALES - 1 - stage])
        return x


def _require_options(cell: type[nn.Module], fusion: str, options: Mapping[str, object]) -> None:
    """Refuse options that a fusion does not take; its first two parameters are the widths."""
    known = list(inspect.signature(cell).parameters)[2:]
    if unknown := [name for name in options if name not in known]:
        allowed = f"allowed: {', '.join(known)}" if known else "it takes none"
        raise DDNetError(f"fusion '{fusion}' has no option '{unknown[0]}' (fusion_options); {allowed}")


def require_fused(
    cell: type[nn.Module], fusion: str, channels: int, depth_channels: int, options: Mapping[str, object]
) -> None:
    """Run a fusion once on small features: what it gives must be shaped as the blur feature is.

    Raises:
        DDNetError: it cannot be built or run, or gives another shape; says what was expected and what came.
    """
    blur, depth = (2, channels, 16, 24), (2, depth_channels, 16, 24)
    asked = f"fusion '{fusion}' ({cell.__module__}): forward(blur {blur}, depth {depth})"
    try:
        # The caller's random numbers stay as they are, and so does a device that the caller has set.
        with torch.random.fork_rng(devices=[]), torch.device("cpu"), torch.no_grad():
            came = cell(channels, depth_channels, **options).eval()(torch.zeros(blur), torch.zeros(depth))
    except Exception as error:  # whatever a stranger's file raises
        if torch.cuda.is_available():  # it may be made for a GPU alone
            return
        raise DDNetError(f"{asked} fails: {' '.join(str(error).split())[:300]}; correct it") from None
    if not isinstance(came, torch.Tensor) or came.shape != torch.Size(blur):
        found = tuple(came.shape) if isinstance(came, torch.Tensor) else type(came).__name__
        raise DDNetError(f"{asked} gave {found}; it must give the blur feature's shape, {blur}; correct it")


class DDNet(nn.Module):
    """Depth-guided single-image defocus deblurring network.

    Args:
        width: C1, channels of the blur features (64 in the paper); C2 is a quarter of it.
        branches: RCABs per group, one number per branch: (3,) is the paper's 1-branch network.
        fusion: `none`, `input` (depth as a fourth input channel), or a name of the fusion registry.
        depth_rcabs: RCABs of the depth encoder (released 1, paper's text 3).
        depth_channels: input channels of the depth encoder (released 1; 3 repeats the map, as the text has it).
        output: `sigmoid` (released) or `residual` (image plus convolution, clipped when evaluating).
        fusion_options: further keyword arguments for the fusion cells.
    """

    multiple = 2**SCALES

    def __init__(
        self,
        width: int = 64,
        branches: Sequence[int] = (3,),
        fusion: str = "gru",
        depth_rcabs: int = 1,
        depth_channels: int = 1,
        output: str = "sigmoid",
        fusion_options: dict[str, object] | None = None,
    ) -> None:
        super().__init__()
        self.branch_rcabs = tuple(branches)
        self.uses_depth = fusion != "none"
        self.depth_as_input = fusion == "input"
        self.residual = output == "residual"
        self.head = conv3x3(4 if self.depth_as_input else 3, width)
        self.depth_encoder: DepthEncoder | None = None
        self.depth_channels = depth_channels
        cell = None
        depth_width = max(1, width // 4)
        if self.uses_depth and not self.depth_as_input:
            cell = resolve("fusion", fusion)
            _require_options(cell, fusion, fusion_options or {})
            require_fused(cell, fusion, width, depth_width, fusion_options or {})
            self.depth_encoder = DepthEncoder(depth_channels, depth_width, depth_rcabs)

        def cells() -> list[nn.Module]:
            if cell is None:
                return []
            return [cell(width, depth_width, **(fusion_options or {})) for _ in range(SCALES)]

        self.branches = nn.ModuleList(Branch(width, rcabs, cells()) for rcabs in branches)
        self.tail = conv3x3(width, 3)

    @property
    def cells(self) -> list[nn.ModuleList]:
        """Fusion cells, per branch and then from 1/8 to full size; empty lists without fusion cells."""
        return [branch.cells for branch in self.branches if isinstance(branch, Branch)]

    def inputs(self, image: torch.Tensor, depth: torch.Tensor | None) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """What the head reads, and for the depth encoder the map at full, 1/2, 1/4 and 1/8 size (or no map).

        Raises:
            ValueError: a network that is guided by depth, and no depth.
        """
        if not self.uses_depth:
            return image, []
        if depth is None:
            raise ValueError("this network is guided by depth: pass a (B, 1, H, W) depth map")
        if self.depth_as_input:
            return torch.cat([image, depth], dim=1), []
        pyramid = [depth.expand(-1, self.depth_channels, -1, -1)]
        for _ in range(SCALES - 1):
            pyramid.append(F.interpolate(pyramid[-1], scale_factor=0.5, mode="bilinear", align_corners=False))
        return image, pyramid

    def forward(self, image: torch.Tensor, depth: torch.Tensor | None = None) -> torch.Tensor:
        """Deblur.

        Args:
            image: (B, 3, H, W) RGB in [0, 1]; sides are multiples of 16 (`ddnet.io.tensors.pad_to_multiple`).
            depth: (B, 1, H, W) normalised inverse depth in [0, 1]; ignored by a network without depth.

        Returns:
            (B, 3, H, W); in (0, 1) with the sigmoid output, unclipped with the residual one while training.
        """
        x, pyramid = self.inputs(image, depth)
        depths = [self.depth_encoder(level) for level in pyramid] if self.depth_encoder is not None else []
        features = torch.relu(self.head(x))
        total = features
        for branch in self.branches:
            total = total + branch(features, depths)
        restored = self.tail(total)
        if not self.residual:
            return torch.sigmoid(restored)
        restored = image + restored
        return restored if self.training else restored.clamp(0, 1)
