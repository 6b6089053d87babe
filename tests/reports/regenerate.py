"""Write golden files and the published schema: `python -m tests.reports.regenerate`; read the difference before you commit it."""

import json
from pathlib import Path

from grader.reports import for_student, report_json, report_markdown, report_schema
from tests.reports import samples

folder = Path(__file__).parent / "golden"
folder.mkdir(exist_ok=True)
for name in ("perfect", "mistakes", "review", "nothing"):
    report = for_student(samples.SAMPLES[name]())
    (folder / f"{name}.json").write_text(report_json(report), "utf-8")
    (folder / f"{name}.md").write_text(report_markdown(report), "utf-8")
(Path(__file__).parents[2] / "docs" / "report.schema.json").write_text(
    json.dumps(report_schema(), indent=1) + "\n", "utf-8"
)
