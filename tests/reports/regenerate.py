"""Write the golden files anew: `python -m tests.reports.regenerate`; then read the difference before committing it."""

from pathlib import Path

from grader.reports import for_student, report_json, report_markdown
from tests.reports import samples

folder = Path(__file__).parent / "golden"
folder.mkdir(exist_ok=True)
for name in ("perfect", "mistakes", "review", "nothing"):
    report = for_student(samples.SAMPLES[name]())
    (folder / f"{name}.json").write_text(report_json(report), "utf-8")
    (folder / f"{name}.md").write_text(report_markdown(report), "utf-8")
