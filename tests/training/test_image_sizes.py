"""Image sizes of other processes join a batch without changing what is learned."""

import torch
from tiny_training import RandomSamples, make_model

from db1.data.collate import collate
from db1.training.step_loader import image_sizes, with_image_sizes


def _losses(batch):
    torch.manual_seed(0)
    model = make_model()
    out = model(batch)
    out.loss_sum.backward()
    return out.loss_sum, {name: p.grad for name, p in model.named_parameters()}


def test_added_images_reach_nothing():
    samples = RandomSamples(8, images=0.5)
    batch = collate([samples[n] for n in range(4)])
    sizes = image_sizes(batch)
    assert sizes and (32, 16, 3, 2) not in sizes
    padded = with_image_sizes(batch, sizes | {(32, 16, 3, 2)})
    assert image_sizes(padded) == sizes | {(32, 16, 3, 2)}
    loss, gradients = _losses(batch)
    padded_loss, padded_gradients = _losses(padded)
    assert torch.equal(loss, padded_loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(padded_gradients[name], gradient)


def test_a_batch_without_images_gets_gradients_of_zero():
    samples = RandomSamples(4)
    batch = collate([samples[n] for n in range(4)])
    loss, gradients = _losses(batch)
    assert gradients["embedding.vision.patches.stem.weight"] is None
    padded_loss, padded = _losses(with_image_sizes(batch, {(16, 16, 3, 1)}))
    assert torch.equal(loss, padded_loss)
    assert padded["embedding.vision.patches.stem.weight"].abs().max() == 0


def test_groups_stand_in_the_same_order_everywhere():
    samples = RandomSamples(30, images=1.0)
    both = collate([samples[n] for n in range(30)])
    sizes = image_sizes(both)
    assert len(sizes) == 2
    batches = [with_image_sizes(collate([samples[n]]), sizes) for n in range(6)]
    orders = {tuple(tuple(group.pixels.shape[1:]) for group in b.images) for b in batches}
    assert len(orders) == 1
