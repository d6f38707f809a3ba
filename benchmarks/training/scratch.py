"""Random initialisation for training from scratch."""

from __future__ import annotations

import torch
from torch import nn


@torch.no_grad()
def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Random weights in place (He et al., ICCV 2015), and BatchNorm reset."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu", generator=generator)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.reset_parameters()
