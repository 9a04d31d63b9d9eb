"""What the compared networks share: a picture's way through them, and their weights on disk.

Our file is an .npz of plain arrays: the network's under their PyTorch names, `width`, and what else gives its shape.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from baselines.common.bit_depth import eight_bits
from baselines.common.network_training import train
from baselines.common.npz_weights import as_array, brief, checked, opened
from baselines.common.objective import Objective
from baselines.common.residual import learn_difference
from ddnet.config import Recipe
from ddnet.data.index import Scene
from ddnet.errors import DDNetError
from ddnet.io.files import atomic_path
from ddnet.io.tensors import best_device, channels_last, pad_to_multiple, to_array, to_tensor
from ddnet.io.torch_files import load_torch
from ddnet.models import count_parameters

FloatArray = NDArray[np.float32]
Shapes = dict[str, tuple[int, ...]]


class NetworkSystem(ABC):
    """A network that turns a blurred picture into a sharp one by itself. A system says in its class:

    Attributes:
        title: what messages call it.
        multiple: the sides of the network's input are multiples of it.
        pad: which sides are padded to that, `end` for the bottom and the right, `start` for the top and the left.
        padding: by what: `reflect` (the border's repetition in tiny pictures) or `zeros`.
        width: the published base width.
        widths: the widths that there can be.
        sizes: further whole numbers that give the network's shape, and the values of each.
        bgr: whether the network takes and gives blue, green, red.
        signed: whether it takes and gives [-1, 1] instead of [0, 1].
        bits: of the pictures that it takes: 8 cuts them to the 256 levels that it learnt from.
        landscape: whether a picture higher than wide is turned by 90 degrees counter-clockwise, and the result back.
        has_residual: whether the published network learns the difference to its input; any other can be made to.
        objective: what its training minimises.
    """

    title: ClassVar[str]
    multiple: int
    pad: ClassVar[Literal["end", "start"]] = "end"
    padding: ClassVar[Literal["reflect", "zeros"]] = "reflect"
    width: ClassVar[int]
    widths: ClassVar[range]
    sizes: ClassVar[Mapping[str, Collection[int]]] = {}
    bgr: ClassVar[bool] = False
    signed: ClassVar[bool] = False
    bits: ClassVar[Literal[8, 16]] = 16
    landscape: ClassVar[bool] = False
    has_residual: ClassVar[bool] = False
    objective: ClassVar[type[Objective]] = Objective

    def __init__(self, weights: Path) -> None:
        """Read our file; the network runs on the GPU where there is one.

        Raises:
            DDNetError: no such file, or one that does not hold just this network's arrays.
        """
        self.use(load_weights(Path(weights), type(self)))

    @classmethod
    def around(cls, network: nn.Module) -> Self:
        """The system of a network that is at hand."""
        system = cls.__new__(cls)
        system.use(network)
        return system

    def use(self, network: nn.Module) -> None:
        """Take a network, to the GPU where there is one."""
        self.device = best_device()
        self.model = channels_last(network.to(self.device))

    @classmethod
    @abstractmethod
    def network(cls, width: int, **sizes: int) -> nn.Module:
        """The network: (B, 3, H, W) in its own convention to the same shape; `sizes` are some of the class's."""

    @staticmethod
    @abstractmethod
    def convert(folder: Path, out: Path) -> None:
        """Make our file of the authors' one in `folder`.

        Raises:
            DDNetError: no such file, or one that does not fit.
        """

    @classmethod
    def training_network(cls, width: int, **sizes: int) -> nn.Module:
        """The network as it is trained, of which `network` is a part: its last three channels are the sharp picture."""
        return cls.network(width, **sizes)

    @staticmethod
    def initialise(network: nn.Module) -> None:
        """Draw the initial weights from torch's stream: He et al. (2015) for ReLU, no bias."""
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    @classmethod
    def train(
        cls,
        scenes_train: Sequence[Scene],
        scenes_val: Sequence[Scene],
        out: Path,
        *,
        patches: Path,
        trunks: Path,
        stamp: str = "",
        **recipe: Any,
    ) -> dict[str, Any]:
        """See `baselines.common.network_training.train`; `recipe` are the values of a `ddnet.config.Recipe`."""
        return train(cls, scenes_val, Path(out), patches, trunks, Recipe.model_validate(recipe), stamp)

    @classmethod
    def parameters(cls) -> int:
        """Parameters of the published network, as its authors count them."""
        with torch.device("meta"):
            return count_parameters(cls.network(cls.width))

    def to_input(self, image: FloatArray) -> Tensor:
        """(H, W, 3) RGB in [0, 1] to (1, 3, H, W) as the network takes it, not yet padded."""
        pixels = to_tensor(image)
        return self.to_network(eight_bits(pixels) if self.bits == 8 else pixels)

    def to_network(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) RGB in [0, 1] to the channels and the range that the network takes."""
        pixels = pixels.flip(1) if self.bgr else pixels
        return 2.0 * pixels - 1.0 if self.signed else pixels

    def to_rgb(self, output: Tensor) -> Tensor:
        """(B, 3, H, W) as the network gives it to RGB in [0, 1], not clipped."""
        pixels = (output + 1.0) / 2.0 if self.signed else output
        return pixels.flip(1) if self.bgr else pixels

    def from_output(self, output: Tensor) -> FloatArray:
        """(1, 3, H, W) as the network gives it to (H, W, 3) RGB, clipped to [0, 1]."""
        return to_array(self.to_rgb(output).clamp(0.0, 1.0))

    def restore(self, image: FloatArray, depth: FloatArray | None = None) -> FloatArray:
        """(H, W, 3) RGB in [0, 1], of any size, to the restored image of the same shape; `depth` is not used."""
        turned = self.landscape and image.shape[0] > image.shape[1]
        image = np.rot90(image) if turned else image
        height, width = image.shape[:2]
        cudnn: Any = torch.backends.cudnn
        with torch.inference_mode(), cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            padded = self._padded(self.to_input(image)).to(self.device)
            output = self.model(padded.contiguous(memory_format=torch.channels_last))[:, -3:]
            top, left = (output.shape[2] - height, output.shape[3] - width) if self.pad == "start" else (0, 0)
            restored = self.from_output(output[:, :, top : top + height, left : left + width])
        return np.ascontiguousarray(np.rot90(restored, -1)) if turned else restored

    def _padded(self, pixels: Tensor) -> Tensor:
        turned = (2, 3) if self.pad == "start" else ()
        pixels = pixels.flip(turned)
        if self.padding == "zeros":
            height, width = pixels.shape[2:]
            pixels = torch.nn.functional.pad(pixels, (0, -width % self.multiple, 0, -height % self.multiple))
        return pad_to_multiple(pixels, self.multiple)[0].flip(turned)


def shapes_of(module: nn.Module) -> Shapes:
    """Names and shapes of a module's arrays."""
    return {name: tuple(value.shape) for name, value in module.state_dict().items()}


def save_weights(out: Path, state: Mapping[str, Any], width: int, residual: int = 0, **sizes: int) -> None:
    """Write our file.

    Args:
        state: arrays or tensors by the names of the network's state_dict.
        residual: 1 where the network was made to learn the difference to its input.
        sizes: the system's `sizes`.
    """
    content = {name: np.ascontiguousarray(as_array(value), np.float32) for name, value in state.items()}
    numbers = {name: np.int64(value) for name, value in {"width": width, "residual": residual, **sizes}.items()}
    with atomic_path(out) as temporary:
        np.savez(temporary, **numbers, **content)  # type: ignore[arg-type]


def load_weights(path: Path, system: type[NetworkSystem]) -> nn.Module:
    """The network of our file, in evaluation mode.

    Raises:
        DDNetError: no such file, or one that does not hold just these arrays, of these shapes, all finite.
    """
    allowed = {"width": system.widths, **system.sizes, "residual": (0, 1)}
    with opened(path, system.title) as arrays:
        sizes = {name: _whole_number(arrays, name, values, path, system.title) for name, values in allowed.items()}
        entries = {name: arrays[name] for name in arrays if name not in sizes}
    residual = sizes.pop("residual")
    with torch.device("meta"):
        network = system.network(**sizes)
    state = fitted(entries, shapes_of(network), path, system.title)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()}, assign=True)
    if residual:
        learn_difference(network)
    return network.eval().requires_grad_(False)


def fitted(entries: Mapping[str, Any], expected: Shapes, path: Path, title: str) -> dict[str, FloatArray]:
    """All entries as float32 arrays: just those expected, of their shapes, finite.

    Args:
        entries: arrays or tensors by name.
        path, title: the file and the system, for messages.

    Raises:
        DDNetError: names the first entry that is unknown, missing or does not fit.
    """
    for name in entries:
        if name not in expected:
            raise DDNetError(f"{path}: unknown entry '{name}' {brief(entries[name])}; not weights of {title}")
    for name, shape in expected.items():
        if name not in entries:
            raise DDNetError(f"{path}: lacks '{name}', which must be {shape}; not weights of {title}")
    return {name: checked(entries[name], name, shape, path) for name, shape in expected.items()}


def read_torch(path: Path, title: str) -> Any:
    """What a file of torch.save holds, if it is tensors and plain containers only; nothing in it is executed.

    Raises:
        DDNetError: no such file, not such a file, or there are other things in it.
    """
    return load_torch(path, f"fetch the published weights of {title} again")


def _whole_number(arrays: Any, name: str, values: Collection[int], path: Path, title: str) -> int:
    said = f"{values[0]} to {values[-1]}" if isinstance(values, range) else ", ".join(map(str, values))
    said += f" in steps of {values.step}" if isinstance(values, range) and values.step != 1 else ""
    if name not in arrays:
        raise DDNetError(f"{path}: lacks '{name}'; not weights of {title} as this suite writes them")
    number = arrays[name]
    if number.shape != () or number.dtype.kind not in "iu" or int(number) not in values:
        raise DDNetError(f"{path}: '{name}' is {brief(number)}; expected one of {said}")
    return int(number)
