"""What of the documents about proposals goes to wandb; of those of runs, see test_wandb_log."""

from __future__ import annotations

from experiments.run.wandb_content import report_summary, report_table, store_summary, store_table

REPORT = {
    "n_images": 3,
    "n_objects": 9,
    "rows": [
        {"league": "unsupervised", "generator": "slic", "images": 3, "oIoU": 90.5, "s/image": 0.2},
        {"league": "ground truth", "generator": "ground truth", "images": 3, "oIoU": 100.0, "s/image": None},
    ],
}
FILLED = {
    "schema": 1,
    "split": "val",
    "n_images": 3,
    "images": {"generated": 2, "failed": 1},
    "n_proposals": 8,
    "seconds": 1.5,
    "failures": {"RuntimeError: not a square": 1},
    "config": {"limit": 3},
}


def test_the_report_is_a_row_per_generator_and_its_numbers() -> None:
    columns, rows = report_table(REPORT)
    assert columns == ["league", "generator", "images", "oIoU", "s/image"]
    assert rows[1] == ["ground truth", "ground truth", 3, 100.0, None]
    summary = report_summary(REPORT)
    assert (summary["slic/oIoU"], summary["ground truth/oIoU"], summary["n_objects"]) == (90.5, 100.0, 9)
    assert not {"ground truth/s/image", "slic/league"} & set(summary)


def test_a_filled_store_is_its_numbers_and_what_became_of_the_images() -> None:
    columns, rows = store_table(FILLED)
    assert columns == ["of", "what", "count"]
    assert rows == [
        ["images", "generated", 2],
        ["images", "failed", 1],
        ["failures", "RuntimeError: not a square", 1],
    ]
    assert store_summary(FILLED) == {
        "images/generated": 2,
        "images/failed": 1,
        "n_images": 3,
        "n_proposals": 8,
        "seconds": 1.5,
        "n_failures": 1,
    }
