"""The audit of dependencies: a finding fails, and what could not be looked at is never taken for good."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "deploy"))
from audited import verdict

GOOD = {"name": "numpy", "version": "2.0", "vulns": []}
BAD = {"name": "pyyaml", "version": "5.3", "vulns": [{"id": "CVE-2020-14343", "fix_versions": ["5.4"]}]}
SKIPPED = {"name": "rich", "skip_reason": "not found"}
OURS = {"name": "streamrnn", "skip_reason": "not found"}


def report(*packages: object) -> str:
    return json.dumps({"dependencies": packages})


def test_a_known_vulnerability_fails_and_is_named() -> None:
    status, said = verdict(report(GOOD, BAD), "")
    assert status == 1
    assert "pyyaml 5.3: CVE-2020-14343, fixed in 5.4" in said


def test_nothing_found_passes_and_says_of_how_many() -> None:
    assert (0, "audit: 1 packages, no known vulnerability") == verdict(report(GOOD, OURS), "")


def test_packages_that_were_skipped_are_named_beside_a_good_answer() -> None:
    status, said = verdict(report(GOOD, SKIPPED), "")
    assert (status, "1 packages, no known vulnerability; NOT CHECKED: rich" in said) == (0, True)


def test_a_report_that_looked_at_nothing_is_no_good_answer() -> None:
    status, said = verdict(report(SKIPPED, OURS), "No known vulnerabilities found")
    assert (status, "NOT CHECKED" in said) == (0, True)
    assert "no known" not in said


def test_without_a_database_it_passes_and_says_so_loudly() -> None:
    status, said = verdict("", "some lines\nConnectionError: no route")
    assert (status, "NOT CHECKED" in said, "no route" in said) == (0, True, True)
