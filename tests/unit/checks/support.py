"""Short cuts for tests of single checks."""

from __future__ import annotations

import polars as pl
from aftershock.harness.checks.gaps import Gaps, find_gaps
from aftershock.harness.checks.view import View, make_view
from aftershock.harness.record import load_record

from tests.runs import Run


def view_of(run: Run) -> View:
    return make_view(load_record(run.write()))


def owed_gaps(view: View) -> Gaps:
    return find_gaps(view.load.filter(~pl.col("cut_off")), until_s=view.judged_until_s)
