"""The graph of a translation: from images of domain b to the same as images of a, and to structures."""

from __future__ import annotations

from torch import Tensor, nn

from xferlab.metrics.measuring import THRESHOLD
from xferlab.tasks.translation.batches import batch_of
from xferlab.tasks.translation.config import Identity
from xferlab.tasks.translation.inference import Inference
from xferlab.training.exported import ABOVE_THRESHOLD, MOST_PROBABLE, Exported, Output, Step

TRANSLATED = Output(
    "translated", ("batch", "channel", "height", "width"), "The image as one of domain a.", (-1.0, 1.0)
)
PROBABILITY = Output(
    "probability",
    ("batch", "structure", "height", "width"),
    "Probability that a pixel is of a structure, told from the translated image.",
)


class Translating(nn.Module):
    """What is predicted of an image of domain b: the networks that take part, and no others."""

    def __init__(self, inference: Inference):
        """Takes the networks of a stage."""
        super().__init__()
        self._inference = inference
        taking_part = {
            name: network
            for name, network in inference.networks.items()
            if not name.startswith("discriminator")
        }
        self.networks = nn.ModuleDict(taking_part)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Returns images (N, 1, H, W) in [-1, 1] as images of a, and probabilities (N, S, H, W), if any."""
        translated = self._inference.into(images, "a")
        own = self._inference.segmenter
        return (translated, own.probabilities(own.logits(translated))) if own else (translated,)


def exported(inference: Inference, identity: Identity) -> Exported:
    """Returns the graph of the networks of a stage; they are put into evaluation mode."""
    own = identity.model.segmenter
    return Exported(
        module=Translating(inference).eval(),
        inputs=lambda examples, rows: batch_of(examples, rows).single,
        channels=1,
        side=identity.image_size,
        multiple=None,
        outputs=(TRANSLATED, PROBABILITY) if own else (TRANSLATED,),
        steps=(Step("range", "grey levels 0 to 255 become -1 to 1", {}, "image / 127.5 - 1.0"),),
        decision=_decision(identity),
        thresholds={"probability": THRESHOLD} if identity.has_threshold else {},
        outside=(
            "The way back, into images of domain b, is not in the graph.",
            "Outputs are stretched to the size that the image had before the step `resize`, bilinear.",
        ),
    )


def _decision(identity: Identity) -> str:
    if identity.model.segmenter is None:
        return "The output is an image."
    return ABOVE_THRESHOLD if identity.has_threshold else MOST_PROBABLE
