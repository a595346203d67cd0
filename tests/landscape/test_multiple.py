import pytest
from hypothesis import given
from hypothesis import strategies as st

from raymc.landscape.multiple import holm


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=20))
def test_holm_keeps_the_order_and_is_between_the_value_and_bonferroni(p):
    adjusted = holm(p)
    for one, raised in zip(p, adjusted, strict=True):
        assert one <= raised <= min(1.0, one * len(p)) + 1e-12
    ranks = sorted(range(len(p)), key=lambda i: p[i])
    assert [adjusted[i] for i in ranks] == sorted(adjusted)
