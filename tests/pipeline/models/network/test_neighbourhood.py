"""Neighbourhood attention against its definition, written out pixel by pixel."""

from __future__ import annotations

import math

import pytest
import torch
import transformers

from pipeline.models.network.neighbourhood import (
    allow_dinat,
    mend_dinat,
    neighbourhood_attention,
    neighbours,
)


@pytest.mark.parametrize(
    ("length", "kernel", "dilation", "place", "expected"),
    [
        (9, 3, 1, 4, [3, 4, 5]),
        (9, 3, 1, 0, [0, 1, 2]),
        (9, 3, 1, 8, [6, 7, 8]),
        (9, 3, 2, 4, [2, 4, 6]),
        (9, 3, 2, 1, [1, 3, 5]),
        (9, 3, 2, 7, [3, 5, 7]),
        (9, 3, 2, 8, [4, 6, 8]),
        (11, 5, 2, 3, [1, 3, 5, 7, 9]),
    ],
)
def test_who_is_near(length: int, kernel: int, dilation: int, place: int, expected: list[int]):
    assert neighbours(length, kernel, dilation)[place].tolist() == expected


def written_out(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bias: torch.Tensor,
    kernel: int,
    dilation: int,
) -> torch.Tensor:
    """The k × k pixels of one's own dilation group that are nearest, the window kept inside."""
    _, heads, height, width, _ = query.shape
    found = torch.zeros_like(query)

    def near(at: int, length: int) -> list[int]:
        group = [place for place in range(length) if place % dilation == at % dilation]
        middle = group.index(at)
        first = min(max(middle - kernel // 2, 0), len(group) - kernel)
        return group[first : first + kernel]

    for head in range(heads):
        for y in range(height):
            for x in range(width):
                pairs = [(i, j) for i in near(y, height) for j in near(x, width)]
                scores = torch.stack(
                    [
                        (query[0, head, y, x] * key[0, head, i, j]).sum()
                        + bias[
                            head,
                            (i - y) // dilation + kernel - 1,
                            (j - x) // dilation + kernel - 1,
                        ]
                        for i, j in pairs
                    ]
                )
                values = torch.stack([value[0, head, i, j] for i, j in pairs])
                found[0, head, y, x] = scores.softmax(0) @ values
    return found


@pytest.mark.parametrize(
    ("hw", "kernel", "dilation"),
    [((7, 9), 3, 1), ((8, 7), 3, 2), ((5, 11), 5, 1), ((10, 13), 3, 3)],
)
def test_attention_is_its_definition(hw: tuple[int, int], kernel: int, dilation: int) -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 2, *hw, 4, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(2, 2 * kernel - 1, 2 * kernel - 1, dtype=torch.float64)
    found = neighbourhood_attention(query, key, value, bias, kernel, dilation)
    expected = written_out(query, key, value, bias, kernel, dilation)
    torch.testing.assert_close(found, expected)


def test_a_layer_of_transformers_takes_it() -> None:
    from transformers.models.dinat.modeling_dinat import NeighborhoodAttention

    allow_dinat()
    torch.manual_seed(0)
    layer = NeighborhoodAttention(transformers.DinatConfig(), 8, 2, 3, 1).eval()
    with torch.no_grad():
        layer.rpb.normal_()
    mend_dinat(layer)
    x = torch.randn(1, 5, 6, 8)
    with torch.no_grad():
        (found,) = layer(x)
        query, key, value = (
            project(x).view(1, 5, 6, 2, 4).permute(0, 3, 1, 2, 4)
            for project in (layer.query, layer.key, layer.value)
        )
        expected = written_out(query / math.sqrt(4), key, value, layer.rpb, 3, 1)
    torch.testing.assert_close(found, expected.permute(0, 2, 3, 1, 4).reshape(1, 5, 6, 8))
