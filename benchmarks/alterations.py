"""What may have been done to an image before it came under a second name."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageOps

Picture = Image.Image
Alter = Callable[[Picture], Picture]
Turn = Image.Transpose


def jpeg(quality: int) -> Alter:
    """Saves as JPEG."""

    def alter(image: Picture) -> Picture:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return alter


def levels(change: Callable[[np.ndarray], np.ndarray]) -> Alter:
    """Changes grey levels, from 0 to 1."""

    def alter(image: Picture) -> Picture:
        grey = np.clip(change(np.asarray(image) / 255.0), 0.0, 1.0)
        return Image.fromarray(np.rint(255 * grey).astype(np.uint8))

    return alter


def noise(deviation: float) -> Alter:
    """Adds noise of so many grey levels."""

    def alter(image: Picture) -> Picture:
        drawn = np.random.default_rng(image.width).normal(0, deviation, (image.height, image.width))
        return Image.fromarray(np.clip(np.asarray(image) + drawn, 0, 255).astype(np.uint8))

    return alter


def crop(*, left: float = 0, top: float = 0, right: float = 0, bottom: float = 0) -> Alter:
    """Cuts shares of the width and height off."""

    def alter(image: Picture) -> Picture:
        width, height = image.size
        box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
        return image.crop(tuple(map(round, box)))

    return alter


def around(share: float) -> Alter:
    """Cuts a share of the width and height off, half of it from each side."""
    return crop(left=share / 2, top=share / 2, right=share / 2, bottom=share / 2)


def pad(sides: Sequence[float], *, fill: int = 0) -> Alter:
    """Adds shares of the width to the left and right, and of the height above and below: left, top, ..."""

    def alter(image: Picture) -> Picture:
        shares = zip(sides, (image.width, image.height) * 2, strict=True)
        return ImageOps.expand(image, tuple(round(share * side) for share, side in shares), fill=fill)

    return alter


def labels(number: int, *, size: tuple[float, float] = (0.22, 0.07)) -> Alter:
    """Burns labels in, of such shares of the width and height; each image has them at other places."""

    def alter(image: Picture) -> Picture:
        altered = image.copy()
        draw = ImageDraw.Draw(altered)
        places = np.random.default_rng(int(np.asarray(image, np.int64).sum())).random((number, 2))
        for count, (x, y) in enumerate(places):
            width, height = size[0] * image.width, size[1] * image.height
            left, top = x * (image.width - width), y * (image.height - height)
            grey = 255 * (count % 2)
            draw.rectangle((left, top, left + width, top + height), fill=grey)
            text = f"PORTABLE AP 12:{count:02}"
            draw.text((left + 2, top + height / 4), text, fill=255 - grey, font_size=max(8, height * 0.4))
        return altered

    return alter


def resized(wide: float, high: float) -> Alter:
    """Stretches or shrinks."""
    return lambda image: image.resize((round(wide * image.width), round(high * image.height)))


def rotated(degrees: float) -> Alter:
    """Rotates; the corners become black."""
    return lambda image: image.rotate(degrees, Image.Resampling.BILINEAR)


def turned(by: Turn) -> Alter:
    """Turns by quarters, or mirrors."""
    return lambda image: image.transpose(by)


def chain(*alters: Alter) -> Alter:
    """Does one after the other."""

    def alter(image: Picture) -> Picture:
        for step in alters:
            image = step(image)
        return image

    return alter


LARGE = (0.45, 0.22)
ALTERATIONS: dict[str, Alter] = {
    "JPEG of quality 40": jpeg(40),
    "JPEG of quality 15": jpeg(15),
    "noise of 10 grey levels": noise(10),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(image.width / 200)),
    "shrunk to 96 px": lambda image: image.resize((96, 96), Image.Resampling.LANCZOS),
    "made square": lambda image: image.resize((256, 256), Image.Resampling.LANCZOS),
    "stretched by 30 %": resized(1.3, 1),
    "gamma 0.5": levels(lambda grey: grey**0.5),
    "gamma 2": levels(lambda grey: grey**2),
    "brighter": levels(lambda grey: 0.8 * grey + 0.15),
    "windowed": levels(lambda grey: (grey - 0.2) / 0.7),
    "equalised": ImageOps.equalize,
    "inverted": ImageOps.invert,
    "mirrored": ImageOps.mirror,
    "upside down": ImageOps.flip,
    "turned by 90 degrees": turned(Turn.ROTATE_90),
    "turned by 180 degrees": turned(Turn.ROTATE_180),
    "turned by 270 degrees": turned(Turn.ROTATE_270),
    "rotated by 2 degrees": rotated(2),
    "rotated by 5 degrees": rotated(5),
    "rotated by 10 degrees": rotated(10),
    "cut by 5 % on the left": crop(left=0.05),
    "cut by 15 % on the left": crop(left=0.15),
    "cut by 15 % at the top": crop(top=0.15),
    "cut by 15 % at the bottom": crop(bottom=0.15),
    "cut by 30 % on the right": crop(right=0.3),
    "cropped by 10 %": around(0.1),
    "cropped by 20 %": around(0.2),
    "cropped by 30 %": around(0.3),
    "cropped by 50 %": around(0.5),
    "padded by 5 %, black": pad((0.05,) * 4),
    "padded by 10 %, white": pad((0.1,) * 4, fill=255),
    "padded by 20 %, black": pad((0.2,) * 4),
    "padded by 30 % on one side": pad((0.3, 0, 0, 0)),
    "padded by 30 % on both sides, grey": pad((0.3, 0, 0.3, 0), fill=128),
    "padded by 20 %, with a label": chain(pad((0.2,) * 4), labels(1)),
    "1 label": labels(1),
    "4 labels": labels(4),
    "8 labels": labels(8),
    "1 large label": labels(1, size=LARGE),
    "2 large labels": labels(2, size=LARGE),
    "inverted and mirrored": chain(ImageOps.invert, ImageOps.mirror),
    "inverted and cut by 15 %": chain(crop(left=0.15), ImageOps.invert),
    "turned by 90 degrees and cut by 15 %": chain(crop(top=0.15), turned(Turn.ROTATE_90)),
    "mirrored and cut by 30 %": chain(crop(bottom=0.3), ImageOps.mirror),
    "inverted, padded, 2 labels": chain(ImageOps.invert, pad((0.2,) * 4), labels(2)),
}
