"""The tables that are printed, and that docs/performance.md shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.cell import TITLES
from benchmarks.goals import BESIDE_IMPORT, GOALS, throughput_over
from benchmarks.rounds import Row, Summary, by_round, noise, ratios, select, summarize
from benchmarks.subjects import WITH_DATABASE

DASH = "\u2013"
LOPSIDED = 0.9  # a worker that takes so much of the CPU has got most of the connections
WHOLE = 0.95
LABELS = {subject.key: subject.label for subject in WITH_DATABASE}
CONDITIONS = ("telemetry on", "telemetry off", "beside a cleanup", BESIDE_IMPORT)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out a Markdown table; the first column is text, the others are figures."""
    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    ruler = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(_line(cells, widths) for cells in [lines[0], ruler, *lines[1:]])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(cells, widths, strict=True)
    texts = [f"{first[0]:<{first[1]}}", *(f"{cell:>{width}}" for cell, width in others)]
    return f"| {' | '.join(texts)} |"


def goals(rows: Sequence[Row]) -> str:
    """Show what is to be reached and what was."""

    def lines() -> Iterable[list[str]]:
        for goal in GOALS:
            bound = "at most" if goal.is_ceiling else "at least"
            yield [
                goal.text,
                text(goal.measure(rows), goal.digits, goal.unit),
                text(goal.noise(rows)),
                f"{bound} {goal.target:g}{goal.unit}",
                goal.verdict(rows),
            ]

    return table(["goal", "measured", "noise (A/A)", "to reach", "verdict"], lines())


def throughput(rows: Sequence[Row]) -> str:
    """Show requests a second and what a request costs, for each server and workload."""

    def lines() -> Iterable[list[str]]:
        for workload, title in TITLES.items():
            for key, label in LABELS.items():
                found = select(rows, suite="throughput", subject=key, workload=workload)
                if found:
                    yield [f"{workload} {title}, {label}", *_costs(found)]

    head = [
        "server",
        "requests/s",
        "server \u00b5s",
        "PostgreSQL \u00b5s",
        "client \u00b5s",
        "lopsided",
    ]
    return table(head, lines())


def comparison(rows: Sequence[Row]) -> str:
    """Show our throughput over each peer's, and the noise beside it."""

    def lines() -> Iterable[list[str]]:
        for workload in TITLES:
            noises = noise(rows, "per_second", suite="throughput", workload=workload)
            for key, label in LABELS.items():
                ratio = throughput_over(key, workload)(rows)
                if key not in {"ours", "twin"} and ratio is not None:
                    cpu = ratios(
                        rows, "server_us", key, "ours", suite="throughput", workload=workload
                    )
                    yield [f"{workload}, {label}", text(ratio), text(cpu), text(noises)]

    head = ["this service over \u2026", "throughput", "CPU (theirs over ours)", "noise (A/A)"]
    return table(head, lines())


def latency(rows: Sequence[Row]) -> str:
    """Show what a caller waits at a fixed rate."""

    def lines() -> Iterable[list[str]]:
        for condition in CONDITIONS:
            for workload in TITLES:
                found = select(rows, suite="latency", subject=condition, workload=workload)
                if found:
                    figures = [summary(found, f"{name}_ms") for name in ("p50", "p99", "p99.9")]
                    rate = f"{found[0]['rate']:,.0f}"
                    yield [f"{workload}, {condition}", rate, *(text(each, 1) for each in figures)]

    return table(["workload", "requests/s", "p50 ms", "p99 ms", "p99.9 ms"], lines())


def lifetime(rows: Sequence[Row]) -> str:
    """Show start, memory and exit."""

    def lines() -> Iterable[list[str]]:
        for suite, field, words in (
            ("start", "first_answer_ms", "start to first answer, ms"),
            ("start", "cpu_ms", "CPU until then, ms"),
            ("memory", "pss_mib", "memory of master and 2 workers, MiB"),
            ("exit", "exit_seconds", "SIGTERM to exit, s"),
        ):
            keys = dict.fromkeys(row["subject"] for row in select(rows, suite=suite))
            for key in sorted(keys):
                values = by_round(rows, field, suite=suite, subject=key).values()
                yield [f"{words}: {_name(suite, key)}", text(summarize(values))]

    return table(["what", "measured"], lines())


def growth(rows: Sequence[Row]) -> str:
    """Show how requests fare in tables of different sizes."""
    sizes = sorted({row["users"] for row in select(rows, suite="growth")})
    works = dict.fromkeys(row["workload"] for row in select(rows, suite="growth"))

    def lines() -> Iterable[list[str]]:
        for workload in works:
            found = [select(rows, suite="growth", users=size, workload=workload) for size in sizes]
            name = TITLES.get(workload, f"{workload} of 50 users")
            yield [f"{name}, requests/s", *(text(summary(each, "per_second"), 0) for each in found)]
            if workload == "W1":
                written = [summary(each, "wal_bytes_per_row") for each in found]
                yield ["bytes of WAL for each user", *(text(each, 0) for each in written)]

    return table(["users", *(f"{size:,}" for size in sizes)], lines())


def worker_memory(rows: Sequence[Row]) -> str:
    """Show the memory of one worker as it goes on."""
    found = select(rows, suite="worker_memory")
    lines = ([f"{row['requests']:,}", f"{row['pss_mib']:.1f}"] for row in found)
    return table(["requests", "master and worker, MiB"], lines)


def imports(rows: Sequence[Row]) -> str:
    """Show how fast many users come in and go out, and what that takes."""

    def lines() -> Iterable[list[str]]:
        for subject, words in (
            ("copy", "COPY"),
            ("import", "import, from the upload to the end of the job"),
            ("export", "export"),
        ):
            if found := select(rows, suite="import", subject=subject):
                yield [f"{words}, users/s", text(summary(found, "per_second"), 0)]
        for row in rows:
            if "peak_mib" in row:
                name = f"peak of {row['subject']}, {row['users']:,} users in and out, MiB"
                yield [name, f"{row['peak_mib']:.1f}"]

    return table(["what", "measured"], lines())


def packages(rows: Sequence[Row]) -> str:
    """Show what of the interpreter's time each package takes by itself."""
    return _shares(select(rows, suite="profile", kind="package"), "package", least=0.02)


def functions(rows: Sequence[Row]) -> str:
    """Show what of the interpreter's time goes by in functions, with all that they call."""
    found = select(rows, suite="profile", kind="function")
    # A function with all of the time, such as that of the thread, says nothing.
    whole = {row["name"] for row in found if row["share"] > WHOLE}
    named = [row for row in found if row["name"] not in whole]
    return _shares(named, "function, with what it calls", least=0.05)


def _shares(found: Sequence[Row], title: str, *, least: float) -> str:
    works = list(dict.fromkeys(row["subject"] for row in found))
    shares = {(row["name"], row["subject"]): row["share"] for row in found}
    names = {row["name"]: row["share"] for row in sorted(found, key=lambda row: row["share"])}
    shown = [name for name in reversed(names) if names[name] >= least]

    def lines() -> Iterable[list[str]]:
        for name in shown:
            figures = (shares.get((name, work)) for work in works)
            yield [f"`{name}`", *(DASH if each is None else f"{each:.0%}" for each in figures)]

    return table([title, *works], lines())


def instructions(rows: Sequence[Row]) -> str:
    """Show how many instructions a request takes."""
    found = select(rows, suite="instructions")
    return table(
        ["request, bytes to bytes", "instructions"],
        ([TITLES[row["workload"]], f"{row['instructions']:,}"] for row in found),
    )


def telemetry(rows: Sequence[Row]) -> str:
    """Show how many instructions a request takes without telemetry, and with traces recorded."""
    found = select(rows, suite="telemetry")
    counted = {(row["subject"], row["workload"]): f"{row['instructions']:,}" for row in found}
    conditions = dict.fromkeys(row["subject"] for row in found)
    lines = ([each, *(counted[each, workload] for workload in ("W1", "W2"))] for each in conditions)
    return table(["instructions of a request", TITLES["W1"], TITLES["W2"]], lines)


def summary(rows: Sequence[Row], field: str) -> Summary | None:
    """Sum up a field of some rows."""
    return summarize(row[field] for row in rows if row.get(field) is not None)


def text(figures: Summary | None, digits: int = 2, unit: str = "") -> str:
    """Render figures, or a dash for none."""
    return DASH if figures is None else f"{figures.text(digits)}{unit}"


def _costs(found: Sequence[Row]) -> list[str]:
    digits = {"per_second": 0, "server_us": 0, "database_us": 0, "client_us": 0}
    lopsided = sum(row["busiest_share"] >= LOPSIDED for row in found)
    figures = [text(summary(found, field), places) for field, places in digits.items()]
    return [*figures, f"{lopsided} of {len(found)}"]


def _name(suite: str, key: str) -> str:
    if suite == "exit":
        return f"collector {key}"
    return LABELS.get(key, "bare Flask")
