"""How methods look: by name alone, and apart."""

import yaml

from flowquant.config.variants import Variant
from flowquant.report.look import COLOURS, KNOWN, method_style, variant_style
from project import ROOT


def configured() -> set[str]:
    """The names of methods and peers in the configurations that come with the workflow."""
    files = (yaml.safe_load(path.read_text()) for path in (ROOT / "config").glob("*.yaml"))
    return {name for file in files for key in ("methods", "peers") for name in file.get(key) or {}}


def test_methods_of_the_workflow_have_a_look_of_their_own() -> None:
    names = configured()
    assert len(names) > 35
    assert names <= KNOWN.keys()
    assert len(set(KNOWN.values())) == len(KNOWN)


def test_print_without_colours_tells_the_first_of_each_family() -> None:
    names = ("ot", "uniform", "lloyd", "refined", "compensated", "hqq")
    assert len({method_style(name)["marker"] for name in names}) == len(names)


def test_any_other_name_has_a_look_that_stays() -> None:
    assert method_style("mine") == method_style("mine")
    assert method_style("mine")["color"] in COLOURS.values()
    # Hollow, so that it is none of those that are known.
    assert method_style("mine")["markerfacecolor"] == "white"
    looks = {(s["color"], s["marker"]) for i in range(100) if (s := method_style(f"mine{i}"))}
    assert len(looks) > 50


def test_a_name_that_goes_on_from_a_known_one_is_of_its_family() -> None:
    # By its hash alone it would have a marker of its family's.
    mine = method_style("refined-2-small")
    assert mine["color"] == method_style("refined-2")["color"] == method_style("refined-3")["color"]
    assert mine["markerfacecolor"] == "white"
    known = [method_style(name) for name in KNOWN]
    assert mine | {"markersize": 0} not in [style | {"markersize": 0} for style in known]
    assert method_style("compensated-half-mine")["color"] == method_style("compensated")["color"]


def test_widths_of_a_method_have_lines_of_their_own() -> None:
    styles = [variant_style(Variant("ot", bits)) for bits in (1, 2, 3, 4, 8)]
    assert len({str(style["linestyle"]) for style in styles}) == len(styles)
    assert len({(style["color"], style["marker"]) for style in styles}) == 1
    assert variant_style(Variant("full"))["color"] == "black"
