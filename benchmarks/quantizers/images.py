"""T1, T1b and T1c: convolutional networks, trained on Fashion-MNIST from fixed seeds.

Sources: He 2015, arXiv:1512.03385, section 4.2 (ResNet-20); Sandler 2018, arXiv:1801.04381 (MobileNetV2).
"""

from __future__ import annotations

import gzip
import math
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from exported import export
from tasks import Array
from torch import nn
from torch.nn import functional as F  # noqa: N812

_MEAN, _STD = 0.286, 0.353
_BATCH = 128
_CALIBRATION, _VALIDATION = 512, 2048
_SPREAD = 1.5


class Basic(nn.Module):
    """Two 3x3 convolutions and a shortcut: (n, i, h, w) -> (n, o, h / stride, w / stride)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o)
        self.conv2, self.norm2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.shortcut: nn.Module = nn.Identity()
        if i != o or stride != 1:
            self.shortcut = nn.Sequential(nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.shortcut(x))


class Inverted(nn.Module):
    """Expand four times, depthwise 3x3, project: (n, i, h, w) -> (n, o, h / stride, w / stride)."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        h = 4 * i
        self.residual = i == o and stride == 1
        layers = [*convolve(i, h, 1), *convolve(h, h, 3, stride, groups=h), *convolve(h, o, 1, act=False)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply."""
        y = self.layers(x)
        return x + y if self.residual else y


def convolve(i: int, o: int, size: int, stride: int = 1, groups: int = 1, act: bool = True) -> list[nn.Module]:
    """Convolution, normalisation and, if wanted, ReLU6."""
    layers = [nn.Conv2d(i, o, size, stride, size // 2, groups=groups, bias=False), nn.BatchNorm2d(o)]
    return [*layers, nn.ReLU6()] if act else layers


def resnet20(width: int = 16) -> nn.Sequential:
    """Images (n, 1, 28, 28) -> logits (n, 10)."""
    layers: list[nn.Module] = [nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    i = width
    for stage, o in enumerate((width, 2 * width, 4 * width)):
        for block in range(3):
            layers.append(Basic(i, o, 2 if stage and block == 0 else 1))
            i = o
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(i, 10))


def mobilenet(width: int = 16) -> nn.Sequential:
    """Images (n, 1, 28, 28) -> logits (n, 10)."""
    layers = [*convolve(1, width, 3), *convolve(width, width, 3, groups=width), *convolve(width, width, 1, act=False)]
    i = width
    for o, blocks, stride in ((24, 2, 2), (32, 2, 1), (64, 3, 2)):
        for block in range(blocks):
            layers.append(Inverted(i, o, stride if block == 0 else 1))
            i = o
    return nn.Sequential(*layers, *convolve(i, 128, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


@dataclass(frozen=True)
class Images:
    """Normalised images (n, 1, 28, 28) and their classes (n,)."""

    train: Array
    train_y: Array
    test: Array
    test_y: Array


def load_images(data: Path) -> Images:
    """Fashion-MNIST from its Debian package."""
    folder = data / "deb" / "dataset-fashion-mnist" / "usr" / "share" / "datasets" / "fashion-mnist"
    parts: list[Array] = []
    for split in ("train", "t10k"):
        pixels = _read_idx(folder / f"{split}-images-idx3-ubyte.gz").astype(np.float32)
        parts.append(((pixels / 255 - _MEAN) / _STD)[:, None])
        parts.append(_read_idx(folder / f"{split}-labels-idx1-ubyte.gz").astype(np.int64))
    return Images(*parts)


def _read_idx(path: Path) -> Array:
    content = gzip.decompress(path.read_bytes())
    rank = content[3]
    shape = np.frombuffer(content, ">i4", count=rank, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def build_resnet(data: Path, folder: Path) -> None:
    """T1: ResNet-20, three epochs, the forward pass in bfloat16."""
    images, net = load_images(data), resnet20()
    save(train(net, images, epochs=3, bfloat16=True), images, folder)


def build_mobilenet(data: Path, folder: Path) -> None:
    """T1b: two epochs."""
    images, net = load_images(data), mobilenet()
    save(train(net, images, epochs=2, bfloat16=False), images, folder)


def train(net: nn.Sequential, images: Images, *, epochs: int, bfloat16: bool) -> nn.Module:
    """SGD with one cycle of the learning rate; images are mirrored batch by batch."""
    x, y = torch.from_numpy(images.train), torch.from_numpy(images.train_y)
    net = net.to(memory_format=torch.channels_last)
    steps = len(x) // _BATCH
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps * epochs, pct_start=0.25)
    start = time.perf_counter()
    for epoch in range(epochs):
        order = torch.randperm(len(x))
        net.train()
        for chosen in order[: steps * _BATCH].split(_BATCH):
            batch = x[chosen].flip(3) if torch.rand(1) < 0.5 else x[chosen]
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
                logits = net(batch.contiguous(memory_format=torch.channels_last))
            F.cross_entropy(logits.float(), y[chosen]).backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1} of {epochs}, {time.perf_counter() - start:.0f} s", flush=True)
    return net.float().eval().to(memory_format=torch.contiguous_format)


def save(net: nn.Module, images: Images, folder: Path) -> None:
    """Write the model, its weights, and the data; calibration and validation are from the training side."""
    torch.save(net.state_dict(), folder / "net.pt")
    chosen = np.random.default_rng(1).permutation(len(images.train))[:_VALIDATION]
    _export(net, images, folder)
    np.savez(folder / "calib.npz", image=images.train[chosen[:_CALIBRATION]])
    np.savez(folder / "val.npz", image=images.train[chosen], labels=images.train_y[chosen])
    np.savez(folder / "eval.npz", image=images.test, y=images.test_y)


def _export(net: nn.Module, images: Images, folder: Path) -> None:
    dynamic = ({0: torch.export.Dim("batch")},)
    export(net, (torch.from_numpy(images.train[:2]),), ["image"], dynamic, folder / "model.onnx")


def build_uneven(data: Path, folder: Path) -> None:
    """T1c: T1b's network with ReLU for ReLU6 and its channels rescaled: the same function, uneven ranges.

    Inside each inverted residual, output channel c of a convolution is multiplied by s_c and the next convolution's
    input channel c divided by it, s_c = exp(N(0, 1.5)). Ranges of whole tensors no longer fit; equalising the channels
    restores them.
    """
    source, images = folder.parent / "T1b", load_images(data)
    net = mobilenet()
    net.load_state_dict(torch.load(source / "net.pt", weights_only=True))
    net.eval()
    blocks = [module for module in net.children() if isinstance(module, Inverted)]
    for block in blocks:
        block.layers = fold(block.layers.children())
    net = fold(net.children())
    rescale_and_check(net, blocks, torch.from_numpy(images.train[:500]))
    _export(net, images, folder)
    for name in ("calib.npz", "val.npz", "eval.npz"):
        shutil.copy(source / name, folder / name)


def fold(layers: Iterable[nn.Module]) -> nn.Sequential:
    """Each convolution with its normalisation folded into it, ReLU for ReLU6."""
    folded: list[nn.Module] = []
    for layer in layers:
        if isinstance(layer, nn.BatchNorm2d):
            folded[-1] = nn.utils.fusion.fuse_conv_bn_eval(folded[-1], layer)
        else:
            folded.append(nn.ReLU() if isinstance(layer, nn.ReLU6) else layer)
    return nn.Sequential(*folded)


@torch.no_grad()
def rescale_and_check(net: nn.Module, blocks: Iterable[Inverted], x: torch.Tensor) -> None:
    """Rescale every block's hidden channels; the network's function stays."""
    before, generator = net(x), torch.Generator().manual_seed(0)
    for block in blocks:
        expand, depthwise, project = (m for m in block.layers if isinstance(m, nn.Conv2d))
        rescale(expand, depthwise, project, generator)
    error = float((net(x) - before).abs().max() / before.abs().max())
    if not math.isfinite(error) or error > 1e-4:
        raise SystemExit(f"error: rescaling changed the network's function by {error:.1e} of its largest output")


def rescale(expand: nn.Conv2d, depthwise: nn.Conv2d, project: nn.Conv2d, generator: torch.Generator) -> None:
    """Multiply the hidden channels by s, then t; divide where they are read."""
    hidden = expand.out_channels
    s, t = (torch.exp(_SPREAD * torch.randn(hidden, generator=generator)) for _ in range(2))
    expand.weight *= s[:, None, None, None]
    depthwise.weight *= (t / s)[:, None, None, None]
    project.weight /= t[None, :, None, None]
    for convolution, factor in ((expand, s), (depthwise, t)):
        assert convolution.bias is not None  # folding made one
        convolution.bias *= factor
