"""`--locate` and `--report`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from net2net_cli.checking import Checking
    from net2net_cli.cli.located import Finding
    from net2net_cli.model import Net2Net
    from net2net_cli.runtime.compare import Comparison


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for beside the comparison of outputs.

    Attributes:
        locate: whether layers are compared, and told of.
        report: where a page goes; it shows the layers too.
        force: whether a file that is no report may be replaced.
        inputs: files that are read, and never replaced.
    """

    locate: bool
    report: Path | None
    force: bool
    inputs: tuple[Path, ...]

    def __post_init__(self) -> None:
        """Check the report's place before any work.

        Raises:
            UsageError: there can be no report.
        """
        if self.report is not None:
            from net2net_cli.cli.reporting import check_report_place

            check_report_place(self.report, force=self.force, inputs=self.inputs)

    def found(self, teacher: Net2Net, student: Net2Net, checking: Checking, compared: Comparison) -> Finding | None:
        """Where the networks part; None if nobody asks."""
        if not self.locate and self.report is None:
            return None
        from net2net_cli.cli.located import finding
        from net2net_cli.correspondence import corresponding
        from net2net_cli.runtime.verifying import locate_models

        common = corresponding(teacher, student)
        return finding(student, locate_models(teacher, student, common.values, checking, compared), common)

    def told(self, text: str, payload: dict[str, Any], where: Finding | None) -> tuple[str, dict[str, Any]]:
        """What is said of the outputs, and behind it what is said of the layers."""
        if where is None or not self.locate:
            return text, payload
        from net2net_cli.cli.located import located_payload, located_text

        return f"{text}\n\n{located_text(where)}", {**payload, "located": located_payload(where)}

    def write(self, teacher: Net2Net, student: Net2Net, payload: Mapping[str, Any], where: Finding | None) -> None:
        """Write the report, if one is wanted.

        Raises:
            MachineError: it cannot be written.
        """
        if self.report is None:
            return
        from net2net_cli.cli.reporting import report_on, write_report

        first, second = (path.name for path in self.inputs)
        write_report(self.report, report_on((first, second), teacher, student, payload, where))
