"""Cases that repeat what others show are slow."""

import pytest


@pytest.hookimpl(tryfirst=True)  # before -m "not slow" is looked at
def pytest_collection_modifyitems(items):
    """Marks the tests of slow cases."""
    for item in items:
        case = getattr(item, "callspec", None) and item.callspec.params.get("case")
        if getattr(case, "slow", False):
            item.add_marker(pytest.mark.slow)
