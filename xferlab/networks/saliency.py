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
    with torch.inference_mode(False), torch.enable_grad():
        logits, activations = _followed(network, images, layer)
        chosen = logits.argmax(dim=1) if classes is None else classes
        maps = _speaking(logits.gather(1, chosen[:, None]).sum(), activations)
    highest = maps.amax(dim=(1, 2), keepdim=True)
    return logits.detach(), torch.where(highest > 0, maps / highest, 0.0)


def class_maps(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Returns the logits of images, and for each image and class the map of `grad_cam`, not divided yet.

    Args:
        network: As of `grad_cam`.
        images: As of `grad_cam`.
        layer: As of `grad_cam`.

    Returns:
        Logits `(N, outputs)`, and maps `(N, outputs, h, w)`, float32, at least 0.

    Raises:
        TaskError: The network has no layer of that name.
    """
    with torch.inference_mode(False), torch.enable_grad():
        logits, activations = _followed(network, images, layer)
        maps = [_speaking(logit.sum(), activations, again=True) for logit in logits.unbind(dim=1)]
    return logits.detach(), torch.stack(maps, dim=1)


def _followed(network: nn.Module, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Logits, with their gradients down to the layer, and what the layer gives."""
    module = _module(network, layer)
    activations: list[Tensor] = []

    def follow(_: nn.Module, inputs: object, output: Tensor) -> Tensor:
        activations.append(output.detach().requires_grad_())
        torch.set_grad_enabled(True)
        return activations[-1].clone()  # what follows may change it in place

    handle = module.register_forward_hook(follow)
    try:
        with torch.no_grad():
            return network(images), activations[-1]
    finally:
        handle.remove()


def _module(network: nn.Module, layer: str) -> nn.Module:
    modules: dict[str, nn.Module] = dict(network.named_modules())
    if layer not in modules or not layer:
        accepted = ", ".join(name for name in modules if name)
        raise TaskError(f"layer: found {layer!r}; accepted: {accepted}.{suggest(layer, modules)}")
    return modules[layer]


def _speaking(logit: Tensor, activations: Tensor, *, again: bool = False) -> Tensor:
    """What speaks for logits, `(N, h, w)`; `again`: others of the same images follow."""
    (slopes,) = torch.autograd.grad(logit, activations, retain_graph=again)
    weights = slopes.mean(dim=(2, 3), keepdim=True)
    return (weights * activations.detach()).sum(dim=1).relu().float()
