"""Where a network of whole images looks (Grad-CAM)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from xferlab.errors import TaskError, suggest


def grad_cam(
    network: nn.Module, images: Tensor, layer: str, classes: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Returns the logits of images, and for each image a map of what speaks for a class.

    The map is ReLU(sum over channels k of w_k A_k), A being what the layer gives, and w_k the mean over its
    pixels of the derivative of the class's logit with respect to A_k (Selvaraju et al. 2017, eq. 1 and 2). It
    is divided by its maximum.

    What comes before the layer runs without gradients. An image's map does not depend on its batch.

    Args:
        network: In evaluation mode, in which images do not depend on each other; unchanged.
        images: `(N, C, H, W)`, as the network takes them.
        layer: Name of a module that the network calls once, whose output has the shape `(N, K, h, w)`. The
            last features of a network of `build.NETWORKS`: `build.NAMES[name].features`.
        classes: `(N,)`, int64: numbers of the logits; None for the highest logit of each image.

    Returns:
        Logits `(N, outputs)`, and maps `(N, h, w)`, float32 in [0, 1]: 0 everywhere where nothing speaks for
        the class.

    Raises:
        TaskError: The network has no layer of that name.
    """
    module = _module(network, layer)
    activations: list[Tensor] = []

    def follow(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
        activations.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return activations[-1].clone()  # what follows may change it in place

    handle = module.register_forward_hook(follow)
    try:
        with torch.inference_mode(False), torch.no_grad():
            logits = network(images)
            chosen = logits.argmax(dim=1) if classes is None else classes
            (slopes,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), activations[-1])
    finally:
        handle.remove()
    return logits.detach(), _scaled(activations[-1].detach(), slopes)


def _module(network: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if layer not in modules or not layer:
        accepted = ", ".join(name for name in modules if name)
        raise TaskError(f"layer: found {layer!r}; accepted: {accepted}.{suggest(layer, modules)}")
    return modules[layer]


def _scaled(activations: Tensor, slopes: Tensor) -> Tensor:
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    maps = (weights * activations).sum(dim=1).relu().float()
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return torch.where(highest > 0, maps / highest, 0.0)
