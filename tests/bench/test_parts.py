"""The arithmetic of the benchmarks. Nothing is measured here."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest

from tests.bench import docs, reference, report
from tests.bench.chart import Bar, Panel, svg
from tests.bench.measure import Measure
from tests.bench.peers.catalog import PEERS


def _measure(**changes: object) -> Measure:
    values = {"samples": [90.0, 110.0, 100.0], "floor": [100.0, 100.0, 50.0], "stack": "embedded", **changes}
    return Measure("A", "no-ops", "tasks/s", **values)  # type: ignore[arg-type]


def test_the_ratio_is_that_of_the_median_pair() -> None:
    assert _measure().ratio == pytest.approx(1.1)
    assert _measure(floor=[]).ratio is None


@pytest.mark.parametrize(
    ("changes", "met"),
    [
        ({}, None),
        ({"ratio_target": 1.0}, True),
        ({"ratio_target": 1.2}, False),
        ({"better": "lower", "target": 100.0}, True),
        ({"better": "lower", "target": 100.0, "ratio_target": 1.0}, False),
    ],
)
def test_a_measure_is_met_when_all_its_targets_are(changes: dict[str, object], met: bool | None) -> None:
    assert _measure(**changes).met is met


@pytest.mark.parametrize(
    ("better", "before", "fails"), [("higher", 1.3, False), ("higher", 1.4, True), ("lower", 0.9, True)]
)
def test_a_ratio_more_than_a_fifth_worse_than_the_reference_fails(better: str, before: float, fails: bool) -> None:
    measure = _measure(better=better)
    assert bool(reference.failing([measure], {measure.key: before})) is fails


def test_what_is_unsteady_or_absolute_is_not_compared() -> None:
    assert reference.comparable(_measure(steady=False)) is None
    assert reference.comparable(_measure(floor=[])) is None


def test_a_row_has_a_cell_for_each_head_and_a_json_round_trip_keeps_it() -> None:
    measure = _measure(ratio_target=1.0)
    assert len(report.row(measure)) == len(report.HEAD)
    assert docs.own_rows([measure.as_dict()]) == [report.row(measure)]


def test_variants_of_a_system_share_a_row() -> None:
    rows = docs.peer_rows(
        [
            {"family": "arq", "values": {"rate": [1.0, 3.0, 2.0]}},
            {"family": "arq", "values": {"rate": [20.0]}},
        ]
    )
    assert rows[0][:2] == ("arq", "2.00 / 20.0")


def test_the_chart_is_well_formed_and_its_longest_bar_fits() -> None:
    chart = ElementTree.fromstring(svg([Panel("a < b", [Bar("x & y", 3, "3"), Bar("z", 6, "6", ours=True)])]))
    widths = [float(bar.attrib["width"]) for bar in chart.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths == [240.0, 480.0]


def test_every_peer_is_measured_in_all_scenarios_by_one_of_its_variants() -> None:
    for family in {peer.label.partition(",")[0] for peer in PEERS}:
        letters = set("".join(peer.scenarios for peer in PEERS if peer.label.partition(",")[0] == family))
        assert letters >= set("ABCEF"), family
