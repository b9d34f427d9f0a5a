import numpy as np
import pytest

from virtue.evaluation.benchmarks.mmeb import META_TASKS, SPLITS, mmeb_table
from virtue.evaluation.benchmarks.scar import SETS
from virtue.evaluation.reports.paper import paper_tables


def test_figures_are_shares_under_the_names_of_this_project() -> None:
    scar, mmeb = paper_tables()["scar"], paper_tables()["mmeb"]
    assert scar.rows["VIRTUE-2B + SCaR-train"]["ADE20K"] == pytest.approx(0.56)
    assert scar.rows["GME-2B + cropping"]["RefCOCO_plus"] == pytest.approx(0.061)
    assert mmeb.rows["VIRTUE-7B"]["grounding"] == pytest.approx(0.873)
    assert set(scar.columns) == {*SETS, "overall"}
    assert mmeb.columns == (*META_TASKS, *SPLITS, "overall")
    assert "2510.00523" in scar.source


def test_each_row_has_all_columns() -> None:
    for table in paper_tables().values():
        assert all(set(row) == set(table.columns) for row in table.rows.values())
    assert (len(paper_tables()["mmeb"].rows), len(paper_tables()["scar"].rows)) == (16, 18)


def test_means_follow_from_one_another_but_where_the_note_says_so() -> None:
    """One decimal of percent, rounded twice, allows 0.001."""
    counts = [sum(task.meta_task == meta for task in mmeb_table().values()) for meta in META_TASKS]
    assert counts == [10, 10, 12, 4]
    table = paper_tables()["mmeb"]
    off = {
        model
        for model, row in table.rows.items()
        if abs(np.average([row[meta] for meta in META_TASKS], weights=counts) - row["overall"]) > 0.0012
    }
    assert off == {"SigLIP so400m", "UniME-7B", "VIRTUE-7B + SCaR-train"}
    assert all(model in table.note for model in off)


def test_the_overall_of_scar_is_the_mean_of_its_five_sets_but_where_the_note_says_so() -> None:
    table = paper_tables()["scar"]
    off = {
        model
        for model, row in table.rows.items()
        if abs(np.mean([row[name] for name in SETS]) - row["overall"]) > 0.0012
    }
    assert off == {"VIRTUE-2B"}
    assert "VIRTUE-2B" in table.note
