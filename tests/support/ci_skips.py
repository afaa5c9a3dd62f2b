"""Under CI a skipped test is a failure, unless the reason is one that CI cannot help.

A skip hides a test; on a developer's machine that is fine (no Ceph, no browser), in CI it would
mean that nobody runs it. Switched on by the environment variable CI, as CI services set it.
"""

from __future__ import annotations

import os

import pytest

ALLOWED = (
    "needs a package index",
    "needs an accelerator",
    "needs the shared test data",
)
"""A skip reason under CI starts with one of these."""


class SkipGate:
    """Collects skips with other reasons and turns them into a failed session."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not reason.startswith(ALLOWED):
            self.refused.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.refused and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.refused:
            terminalreporter.section("skips that CI does not allow", red=True)
            for line in self.refused:
                terminalreporter.line(line)
            terminalreporter.line(f"allowed reasons start with: {'; '.join(ALLOWED)}")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # a process of pytest-xdist: the one that started it counts
        return
    if os.environ.get("CI", "").lower() not in ("", "0", "false"):
        config.pluginmanager.register(SkipGate(), "skip-gate")
