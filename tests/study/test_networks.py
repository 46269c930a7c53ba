"""The networks: published parameter counts, shapes, gradients, the same weights for a seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as nnf
from torch import nn

from paramcast.study.tasks.networks import CHARACTERS, IMAGES
from paramcast.study.tasks.networks.resnet import Block, cifar_resnet
from paramcast.study.tasks.networks.transformer import GPT, vit_tiny
from paramcast.study.tasks.vision import PADDING, crop_and_flip


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


# --- counts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "classes", "count"),
    [
        # kuangliu/pytorch-cifar's variants, as printed by many who ran them
        ("vgg16", 10, 14_728_266),
        ("resnet18", 10, 11_173_962),
        ("resnet18", 100, 11_220_132),
        ("googlenet", 10, 6_166_250),
        # He et al.: 0.27 M; exactly, with option A
        ("resnet20", 10, 269_722),
    ],
)
def test_parameters_are_as_many_as_published(name: str, classes: int, count: int) -> None:
    with torch.device("meta"):
        assert parameters(IMAGES[name].make(3, classes, 32)) == count


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (56, 0.85), (110, 1.7)])
def test_the_cifar_family_has_the_sizes_of_hes_table_6(depth: int, millions: float) -> None:
    digits = 1 if depth == 110 else 2
    assert round(parameters(cifar_resnet(3, 10, 32, depth)) / 1e6, digits) == millions


def test_vit_tiny_at_the_papers_size_is_deit_tiny() -> None:
    assert parameters(vit_tiny(3, 1000, 224, patch=16)) == 5_717_416


def test_gpt_small_is_the_one_that_nanogpt_prints_as_10_65m() -> None:
    model = CHARACTERS["gpt-small"].make(65, 256)
    assert isinstance(model, GPT)
    assert round((parameters(model) - model.positions.weight.numel()) / 1e6, 2) == 10.65


# --- forward and backward -----------------------------------------------------------------------

CASES = [
    *[(name, 3, 32) for name in ("resnet18", "vgg16", "googlenet")],
    *[(name, 1, 28) for name in IMAGES if name not in ("resnet18", "vgg16", "googlenet")],
    *[(name, 1, 8) for name in ("mlp", "resnet8")],
]


@pytest.mark.parametrize(("name", "channels", "size"), CASES)
def test_images_in_logits_out_and_every_parameter_learns(
    name: str, channels: int, size: int
) -> None:
    torch.manual_seed(0)
    model = IMAGES[name].make(channels, 7, size)
    images = torch.randn(4, channels, size, size)
    out = model(images)
    assert out.shape == (4, 7)
    nnf.cross_entropy(out, torch.tensor([0, 1, 2, 6])).backward()
    assert_gradients(model)


@pytest.mark.parametrize("name", ["gpt-tiny", "gpt-small"])
def test_characters_in_logits_of_the_next_out(name: str) -> None:
    torch.manual_seed(0)
    network = CHARACTERS[name]
    model = network.make(65, network.context)
    codes = torch.randint(0, 65, (2, network.context))
    out = model(codes)
    assert out.shape == (2, 65, network.context)  # as cross_entropy wants it
    loss = nnf.cross_entropy(out, codes.roll(-1, 1))
    assert loss.item() == pytest.approx(torch.tensor(65.0).log().item(), abs=0.1)  # knows nothing
    loss.backward()
    assert_gradients(model)


def assert_gradients(model: nn.Module) -> None:
    """Every parameter has one; none is zero but a bias that batch norm takes away again."""
    for name, p in model.named_parameters():
        assert p.grad is not None, name
        assert torch.isfinite(p.grad).all(), name
        if not (name.endswith("bias") and p.grad.abs().max() < 1e-5):
            assert p.grad.abs().max() > 0, name


@pytest.mark.parametrize(
    "make",
    [
        *[lambda n=n: IMAGES[n].make(3, 10, 32) for n in ("cnn", "googlenet", "vit-tiny")],
        lambda: CHARACTERS["gpt-tiny"].make(65, 64),
    ],
    ids=["cnn", "googlenet", "vit-tiny", "gpt-tiny"],
)
def test_the_seed_decides_weights_and_a_training_step(make: Callable[[], nn.Module]) -> None:
    def after_a_step(seed: int) -> list[torch.Tensor]:
        torch.manual_seed(seed)
        model = make()
        characters = isinstance(model, GPT)
        inputs = torch.randint(0, 65, (2, 16)) if characters else torch.randn(2, 3, 32, 32)
        targets = torch.randint(0, 10, (2, 16) if characters else (2,))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        nnf.cross_entropy(model(inputs), targets).backward()
        optimizer.step()
        return [p.detach() for p in model.parameters()]

    one, two, other = after_a_step(0), after_a_step(0), after_a_step(1)
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_no_character_sees_a_later_one() -> None:
    torch.manual_seed(0)
    model = CHARACTERS["gpt-tiny"].make(65, 64).eval()
    codes = torch.randint(0, 65, (1, 64))
    changed = codes.clone()
    changed[0, 40:] = (changed[0, 40:] + 1) % 65
    before, after = model(codes), model(changed)
    torch.testing.assert_close(before[..., :40], after[..., :40], rtol=0, atol=1e-6)
    assert (before[..., 40:] - after[..., 40:]).abs().amax() > 1e-3


def test_a_shortcut_without_parameters_subsamples_and_pads() -> None:
    block = Block(2, 4, 2, projection=False)
    x = torch.arange(2 * 5 * 5.0).reshape(1, 2, 5, 5)
    short = block._shortcut(x)
    assert torch.equal(short[:, 1:3], x[:, :, ::2, ::2])
    assert short[:, [0, 3]].abs().sum() == 0
    assert short.shape == block(x).shape


# --- augmentation -------------------------------------------------------------------------------


def reference(image: torch.Tensor, down: int, right: int, mirror: bool) -> torch.Tensor:
    """One image, written out: pad, cut, mirror."""
    _, height, width = image.shape
    padded = torch.zeros(image.shape[0], height + 2 * PADDING, width + 2 * PADDING)
    padded[:, PADDING : PADDING + height, PADDING : PADDING + width] = image
    cut = padded[:, down : down + height, right : right + width]
    return cut.flip(2) if mirror else cut


def test_each_augmented_image_is_a_shifted_and_mirrored_one() -> None:
    images = torch.randn(200, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    found = crop_and_flip(images, torch.Generator().manual_seed(1))
    seen = set()
    for image, new in zip(images, found, strict=True):
        ways = [
            (down, right, mirror)
            for down in range(9)
            for right in range(9)
            for mirror in (False, True)
            if torch.equal(reference(image, down, right, mirror), new)
        ]
        assert ways
        if len(ways) == 1:  # shifted out of sight, an image is the same in several ways
            seen.add(ways[0])
    assert {down for down, _, _ in seen} == {right for _, right, _ in seen} == set(range(9))
    assert {mirror for _, _, mirror in seen} == {False, True}
    assert len(seen) > 60


def test_augmentation_is_the_generators_alone_and_leaves_the_images() -> None:
    images = torch.randn(8, 3, 32, 32)
    before = images.clone()
    one = crop_and_flip(images, torch.Generator().manual_seed(1))
    torch.manual_seed(5)
    two = crop_and_flip(images, torch.Generator().manual_seed(1))
    other = crop_and_flip(images, torch.Generator().manual_seed(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(images, before)
    assert one.is_contiguous()
