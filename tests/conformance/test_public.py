"""Every public class has a case."""

import types

import pytest

from conformance.cases import CASES, FAMILIES, public_classes


def without_case(family, package):
    covered = {case.cls for case in CASES if case.family == family}
    bases = {"schedule": package.Schedule} if family == "schedule" else {}
    kind = bases.get(family, object)
    return [cls.__name__ for cls in public_classes(package) if issubclass(cls, kind) and cls not in covered]


@pytest.mark.parametrize("family", FAMILIES)
def test_every_public_class_has_a_case(family):
    assert public_classes(FAMILIES[family])
    assert without_case(family, FAMILIES[family]) == []


def test_twin_a_new_class_without_a_case_is_named():
    package = types.SimpleNamespace(__all__=["Laplace"], Laplace=type("Laplace", (), {}))
    assert without_case("prior", package) == ["Laplace"]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_case_makes_what_it_says(case):
    assert type(case.make()) is case.cls
