"""Rows under `peers`, and what the rules ask of them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowquant.config.peer import KNOWN
from flowquant.config.reading import merged, read_yaml
from flowquant.config.run import Run
from flowquant.runtime.errors import UserError
from project import ROOT, TINY

W = SimpleNamespace(dataset="digits", method="a")
FAKE = str(ROOT / "tests/fake_peer.py")


def read(**peers: Any) -> Run:
    return Run.read(TINY | {"peers": peers}, ROOT, [])


def test_a_peers_widths_are_variants_beside_those_of_methods() -> None:
    run = read(a={"peer": "hqq", "bits": [4, 3]}, b={"peer": FAKE, "bits": [2]})
    assert run.variants == ["full", "uniform/2bit", "ot/2bit", "a/4bit", "a/3bit", "b/2bit"]
    assert run.quantized == run.variants[1:]
    assert run.packed == run.variants[1:3]
    assert Run.read(TINY, ROOT, []).packed == run.packed


def test_every_peer_that_comes_with_the_workflow_has_a_program_and_a_row() -> None:
    programs = {path.stem for path in (ROOT / "workflow/peers").glob("by_*.py")}
    assert programs == {f"by_{peer}" for peer in KNOWN}
    run = Run.read(merged(TINY, read_yaml(ROOT / "config/peers.yaml")), ROOT, [])
    assert {row.peer for row in run.peers.values()} == set(KNOWN)
    for name, row in run.peers.items():
        assert run.program(SimpleNamespace(method=name)).name == f"by_{row.peer}.py"


def test_what_a_peer_is_told() -> None:
    run = read(a={"peer": "sdnq", "bits": [4.0], "codebook": True, "rank": 8})
    assert run.peer_options(W) == [
        *("--settings.group=None", "--settings.double=False"),
        *("--settings.codebook=True", "--settings.rank=8"),
    ]
    assert run.peers["a"].said == {"codebook": True, "rank": 8}
    assert run.peers["a"].bits == (4,)


def test_only_what_has_peers_asks_for_them_to_be_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    rows = {name: {"peer": "hqq", "bits": [4]} for name in "ab"}
    words = read(**rows, c={"peer": FAKE, "bits": [4]}).check_options(W)
    start = words.index("--peers")
    # A path from here, so that another checkout finds nothing stale.
    assert words[start + 1 : start + 3] == ["workflow/peers/by_hqq.py", FAKE]
    assert words[start + 3].startswith("--")
    assert "--peers" not in read().check_options(W)


def test_an_edit_of_a_program_or_of_what_programs_share_is_seen(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("1")
    run = read(a={"peer": str(mine), "bits": [2]})
    found = {run.peer_code(W)}
    mine.write_text("2")
    found.add(run.peer_code(W))
    (tmp_path / "program.py").write_text("1")
    found.add(run.peer_code(W))
    assert len(found) == 3
    assert len(read(a={"peer": "hqq", "bits": [2]}).peer_code(W).split()) == 3


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"peer": "gptq"}, "`peers.a.peer`: found 'gptq'; expected one of hqq, bitsandbytes, "),
        ({"peer": "-x.py"}, "`peers.a.peer`: found '-x.py'"),
        ({"peer": "none.py"}, "`peers.a.peer`: found 'none.py', where there is no file"),
        ({"peer": "bitsandbytes"}, "`peers.a.bits`: found 3; expected widths of `bitsandbytes`: 4"),
        ({"peer": "quanto", "bits": [2], "group": 64}, "`peers.a.group`: found a setting that"),
        ({"peer": "hqq", "double": True}, "`peers.a.double`: found a setting that `hqq` does not"),
        ({"peer": "hqq", "group": 1}, "`peers.a.group`: found 1; expected a whole number, ≥ 2"),
        ({"peer": "hqq", "levels": "lloyd"}, "`peers.a.levels`: found an unknown key"),
    ],
)
def test_mistakes(row: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        read(a={"bits": [3]} | row)
    assert message in str(error.value)


def test_a_peer_and_a_method_have_names_of_their_own() -> None:
    with pytest.raises(UserError, match=r"`peers\.ot`: found 'ot', which is a method, too"):
        read(ot={"peer": "hqq", "bits": [4]})
    with pytest.raises(UserError, match=r"`peers\.full`: found the name 'full'"):
        read(full={"peer": "hqq", "bits": [4]})
