"""Names of variants: taken apart, put together, sorted, shown."""

import pytest

from flowquant.config.variants import Variant
from flowquant.runtime.errors import UserError

NAMES = ["real", "full", "mixed/2.5bit", "ot/16bit", "ot/2.39bit", "ot/2bit", "uniform_row/2bit"]
OTHERS = ["", "Full", "ot", "ot/", "ot/2", "ot/bit", "ot/2bits", "/2bit", "ot/a/2bit", "ot_2bit"]
OTHERS += ["OT/2bit", "ot/0bit", "ot/2.0bit", "ot/02bit", "ot/-2bit", "ot/nanbit", "full/2bit"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_comes_back(name: str) -> None:
    assert str(Variant.parse(name)) == name


def test_the_parts_of_a_name() -> None:
    assert Variant.parse("mixed/2.5bit") == Variant("mixed", 2.5)
    assert Variant.parse("ot/2bit") == Variant("ot", 2.0)
    assert [(v.method, v.bits) for v in map(Variant.parse, ("full", "real"))] == [
        ("full", None),
        ("real", None),
    ]


def test_what_a_variant_is() -> None:
    found = [
        (v.is_full, v.is_real, v.is_quantized, v.width, v.nominal_bits, v.label)
        for v in map(Variant.parse, ("full", "real", "mixed/2.5bit"))
    ]
    assert found == [
        (True, False, False, "", 32, "full"),
        (False, True, False, "", None, "real"),
        (False, False, True, "2.5bit", 2.5, "mixed 2.5bit"),
    ]


def test_order() -> None:
    assert [str(variant) for variant in sorted(map(Variant.parse, reversed(NAMES)))] == NAMES


@pytest.mark.parametrize("name", OTHERS)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"run\.json: found .* such as ot/2bit.*zeros"):
        Variant.parse(name, "run.json")


def test_impossible_variants_cannot_be_made() -> None:
    for method, bits in (("ot", None), ("full", 2.0)):
        with pytest.raises(ValueError, match=method):
            Variant(method, bits)
