"""One command: measure, compare, write tables and a picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from benchmarks.cases import PEERS
from benchmarks.networks import RECIPES
from benchmarks.plans import PRESETS, pairs
from benchmarks.plot import plot
from benchmarks.report import disagrees
from benchmarks.run import Run
from benchmarks.systems import SYSTEMS

_DEFAULT_PEERS = "mlcalc,mlcalc-torch,pyg,naive"


class Names(click.ParamType):
    """Names separated by commas."""

    name = "NAMES"

    def __init__(self, known: Sequence[str]) -> None:
        self.known = known

    def convert(self, value: Any, param: Any, ctx: Any) -> list[str]:
        if isinstance(value, list):
            return value
        names = [name for name in value.split(",") if name]
        unknown = [name for name in names if name not in self.known]
        if unknown:
            self.fail(f"{unknown[0]!r} is unknown: choose from {', '.join(self.known)}", param, ctx)
        return names


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--preset", type=click.Choice([*PRESETS, "full"]), default="targets", help="What to measure.")
@click.option("--systems", type=Names(list(SYSTEMS)), default="", help="Instead: these, " + ", ".join(SYSTEMS) + ".")
@click.option("--networks", type=Names(list(RECIPES)), default="", help="Instead: these, " + ", ".join(RECIPES) + ".")
@click.option("--peers", type=Names(list(PEERS)), default=_DEFAULT_PEERS, help="Codes: " + ", ".join(PEERS) + ".")
@click.option("--dtypes", type=Names(["float32", "float64"]), default="float32", help="Precisions.")
@click.option("--threads", default=os.cpu_count() or 1, type=click.IntRange(1), help="Threads of every code.")
@click.option("--repeats", default=7, type=click.IntRange(2), help="Samples of each time, taken in turns.")
@click.option("--memory-gib", type=float, help="Limit of each process.  [default: 90 % of the memory]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where all codes run.")
@click.option("--patience-s", default=600.0, help="A call that takes longer is given up.")
@click.option("--mlip-python", type=click.Path(dir_okay=False), help="Interpreter that has InstaDeep's mlip.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default="benchmark_output", help="Folder.")
def main(
    *,
    preset: str,
    systems: list[str],
    networks: list[str],
    peers: list[str],
    dtypes: list[str],
    threads: int,
    repeats: int,
    memory_gib: float | None,
    device: str,
    patience_s: float,
    mlip_python: str | None,
    output: Path,
) -> None:
    """Time, memory and errors of energy-and-force calls, ours and others', written to a folder.

    benchmarks.md has the tables, benchmarks.json all samples, benchmarks.png the picture.  Codes that are not
    installed are left out, and named.  See docs/benchmarks.md.
    """
    chosen = pairs(preset, systems, networks)
    if not chosen:
        raise click.UsageError("none of these networks is made for any of these systems")
    if "mlip" in peers and mlip_python is None:
        raise click.UsageError("mlip needs --mlip-python: the interpreter of an environment that has it")
    output.mkdir(parents=True, exist_ok=True)
    (output / "workers.log").write_text("")
    memory = memory_gib or 0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    run = Run(
        output=output,
        threads=threads,
        repeats=repeats,
        memory_gib=memory,
        device=device,
        patience_s=patience_s,
        pythons={"mlip": mlip_python} if mlip_python else {},
    )
    report = run.report(chosen, peers, dtypes)
    report.save(output / "benchmarks.json")
    (output / "benchmarks.md").write_text(report.markdown(), encoding="utf-8")
    plot(report, output / "benchmarks.png")
    click.echo(report.markdown())
    wrong = [result.case.label for result in report.measurements if disagrees(result)]
    if wrong:
        raise click.ClickException(f"forces disagree with the float64 reference: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
