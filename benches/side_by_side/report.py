"""The results as Markdown: ratios first, then every raw number, the machine and the command."""

import os
import platform
import shlex
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from measure import Load, Memory
from workloads import Workload

BASE, OURS = "pgbouncer", "pgpool"


@dataclass
class Result:
    """All rounds of one workload: figures by pooler, in the order of the rounds."""

    workload: Workload
    figures: dict[str, list] = field(default_factory=lambda: {BASE: [], OURS: []})
    # Which pooler went first in each round.
    first: list[str] = field(default_factory=list)
    error: str | None = None

    def median(self, pooler: str, figure: str) -> float:
        return statistics.median(getattr(one, figure) for one in self.figures[pooler])

    def ratio(self, figure: str) -> float:
        """pgpool to PgBouncer: the median over the rounds, each compared with itself."""
        pairs = zip(self.figures[OURS], self.figures[BASE])
        ratios = [getattr(ours, figure) / getattr(base, figure) for ours, base in pairs if getattr(base, figure)]
        return statistics.median(ratios) if ratios else float("nan")

    def verdict(self) -> str:
        target = self.workload.target
        if not target:
            return ""
        value = self.ratio("cpu_us") if target.figure == "cpu" else self.median(OURS, "rss_each")
        return f"≤ {target.at_most:g}: {'met' if value <= target.at_most else '**missed**'}"


def markdown(results: list[Result], facts: dict[str, str]) -> str:
    loads = [result for result in results if not result.error and not result.workload.idle]
    idle = [result for result in results if not result.error and result.workload.idle]
    failed = [result for result in results if result.error]
    lines = ["# pgpool beside PgBouncer", "",
             "Each ratio is pgpool to PgBouncer within one round, the median of the rounds; other figures are medians.",
             "CPU is the pooler's own, user and system, per transaction.", ""]
    if loads:
        lines += load_table(loads)
    if idle:
        lines += idle_table(idle)
    for result in failed:
        lines += [f"**{result.workload.name} failed:**", "", "```", result.error.strip(), "```", ""]
    lines += ["## Workloads", ""]
    lines += [f"- `{one.workload.name}`: {one.workload.about}; {one.workload.clients} clients, {one.workload.pool_mode} mode"
              for one in results]
    lines += ["", "## Raw numbers", ""] + raw_table(loads, idle)
    lines += ["## Machine and command", ""] + [f"- {name}: {value}" for name, value in facts.items()]
    return "\n".join(lines) + "\n"


def load_table(loads: list[Result]) -> list[str]:
    lines = ["| workload | tps PgBouncer | tps pgpool | ratio | mean ms | ratio | p99 ms | ratio "
             "| CPU µs/tx PgBouncer | CPU µs/tx pgpool | CPU ratio | CPU target |",
             "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|"]
    for one in loads:
        def both(figure: str, digits: int, one=one) -> str:
            return f"{one.median(BASE, figure):.{digits}f} → {one.median(OURS, figure):.{digits}f}"

        lines.append(
            f"| {one.workload.name} | {one.median(BASE, 'tps'):.0f} | {one.median(OURS, 'tps'):.0f} "
            f"| {one.ratio('tps'):.2f} | {both('mean_ms', 3)} | {one.ratio('mean_ms'):.2f} "
            f"| {both('p99_ms', 3)} | {one.ratio('p99_ms'):.2f} | {one.median(BASE, 'cpu_us'):.2f} "
            f"| {one.median(OURS, 'cpu_us'):.2f} | **{one.ratio('cpu_us'):.2f}** | {one.verdict()} |")
    return lines + [""]


def idle_table(idle: list[Result]) -> list[str]:
    lines = ["| workload | RSS/client PgBouncer | RSS/client pgpool | ratio | PSS/client PgBouncer | PSS/client pgpool "
             "| target |", "|---|--:|--:|--:|--:|--:|---|"]
    for one in idle:
        lines.append(
            f"| {one.workload.name} | {one.median(BASE, 'rss_each'):.0f} B | {one.median(OURS, 'rss_each'):.0f} B "
            f"| **{one.ratio('rss_each'):.2f}** | {one.median(BASE, 'pss_each'):.0f} B "
            f"| {one.median(OURS, 'pss_each'):.0f} B | {one.verdict()} |")
    return lines + [""]


def raw_table(loads: list[Result], idle: list[Result]) -> list[str]:
    lines = []
    if loads:
        lines += ["| workload | round | pooler | order | tps | mean ms | p99 ms | CPU µs/tx |",
                  "|---|--:|---|--:|--:|--:|--:|--:|"]
    for one in loads:
        for number, first in enumerate(one.first):
            for pooler in (BASE, OURS):
                figures: Load = one.figures[pooler][number]
                lines.append(
                    f"| {one.workload.name} | {number + 1} | {pooler} | {1 if pooler == first else 2} "
                    f"| {figures.tps:.1f} | {figures.mean_ms:.4f} | {figures.p99_ms:.3f} | {figures.cpu_us:.3f} |")
    if idle:
        lines += ["", "| workload | pooler | clients | RSS before | RSS after | PSS before | PSS after |",
                  "|---|---|--:|--:|--:|--:|--:|"]
    for one in idle:
        for pooler in (BASE, OURS):
            for figures in one.figures[pooler]:
                sizes: Memory = figures
                lines.append(f"| {one.workload.name} | {pooler} | {sizes.clients} | {sizes.rss_before} "
                             f"| {sizes.rss_after} | {sizes.pss_before} | {sizes.pss_after} |")
    return lines + [""]


def machine_facts(versions: dict[str, str]) -> dict[str, str]:
    model = "unknown"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True,
                            cwd=Path(__file__).parent)
    return {
        "CPU": f"{model}, {len(os.sched_getaffinity(0))} cores usable",
        "kernel": f"{platform.system()} {platform.release()}",
        "load average at the end": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        **versions,
        "commit": commit.stdout.strip() or "unknown",
        "command": "`" + shlex.join([f"benches/side_by_side/{Path(sys.argv[0]).name}", *sys.argv[1:]]) + "`",
    }
