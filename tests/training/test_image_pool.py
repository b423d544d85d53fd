"""The image pool: which images it returns, how often, and that it goes on as it would have."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch

from xferlab.training.image_pool import ImagePool

pytestmark = pytest.mark.component


def numbered(*numbers: int) -> torch.Tensor:
    """Images whose pixels are their number."""
    return torch.tensor(numbers, dtype=torch.float32).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 3)


def returned(
    pool: ImagePool, batches: range, *, per_batch: int = 2, seed: int = 1, epoch: int = 1
) -> list[int]:
    numbers: list[int] = []
    for batch in batches:
        images = numbered(*range(batch * per_batch, (batch + 1) * per_batch))
        output = pool.exchange(images, seed=seed, epoch=epoch, batch=batch)
        assert output.shape == images.shape
        numbers += output[:, 0, 0, 0].int().tolist()
    return numbers


def test_until_it_is_full_and_without_room_images_stay_as_they_are():
    assert returned(ImagePool("a"), range(25)) == list(range(50))
    assert returned(ImagePool("a", size=0), range(50)) == list(range(100))


def test_half_of_the_images_are_replaced_by_earlier_ones_each_seen_at_most_twice():
    pool = ImagePool("a", size=10)
    numbers = returned(pool, range(1005))[10:]
    replaced = [(number, place) for place, number in enumerate(numbers, start=10) if number != place]
    assert all(number < place for number, place in replaced)
    assert len(replaced) / 2000 == pytest.approx(0.5, abs=4 * 0.5 / 2000**0.5)
    assert all(numbers.count(number) == 1 for number, _ in replaced if number >= 10)
    # Each place is equally likely, so that the next exchange takes one in ten of those just kept.
    exchanges = {number: order for order, (_, number) in enumerate(replaced)}
    stays = [order - exchanges[number] for order, (number, _) in enumerate(replaced) if number in exchanges]
    assert stays.count(1) / len(stays) == pytest.approx(0.1, abs=4 * 0.3 / len(stays) ** 0.5)


def test_draws_belong_to_seed_domain_epoch_and_batch():
    first = returned(ImagePool("a", size=4), range(40))
    assert returned(ImagePool("a", size=4), range(40)) == first
    assert returned(ImagePool("b", size=4), range(40)) != first
    assert returned(ImagePool("a", size=4), range(40), seed=2) != first
    assert returned(ImagePool("a", size=4), range(40), epoch=2) != first
    pool = ImagePool("a", size=1)
    pool.exchange(numbered(0), seed=1, epoch=1, batch=0)
    assert len({tuple(returned_again(pool, batch)) for batch in range(6)}) > 1


def returned_again(pool: ImagePool, batch: int) -> list[bool]:
    """Which of six new images a pool of one would exchange in a batch."""
    copy = ImagePool("a", size=1)
    copy.restore(pool.state())
    output = copy.exchange(numbered(1, 2, 3, 4, 5, 6), seed=1, epoch=1, batch=batch)
    return [int(image[0, 0, 0]) != number for number, image in enumerate(output, start=1)]


@pytest.mark.parametrize("after", [0, 1, 2, 5, 17])
def test_resumed_after_any_batch_it_returns_the_same(after):
    expected = returned(ImagePool("a", size=5), range(30))
    before, resumed = ImagePool("a", size=5), ImagePool("a", size=5)
    numbers = returned(before, range(after))
    state = before.state()
    returned(before, range(after, 30))  # what is stored does not change under it
    resumed.restore(stored(state))
    assert numbers + returned(resumed, range(after, 30)) == expected


def stored(state: dict[str, Any]) -> dict[str, Any]:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    loaded: dict[str, Any] = torch.load(io.BytesIO(buffer.getvalue()), weights_only=True)
    return loaded


def test_images_leave_their_graph_and_their_batch():
    images = numbered(1, 2).clone().requires_grad_() * 2
    pool = ImagePool("a", size=1)
    output = pool.exchange(images, seed=1, epoch=1, batch=0)
    (held,) = pool.state()["images"]
    assert not output.requires_grad
    assert not held.requires_grad
    assert held.untyped_storage().nbytes() == 6 * 4
    assert not ImagePool("a", size=0).exchange(images, seed=1, epoch=1, batch=0).requires_grad
