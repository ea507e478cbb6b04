"""One command: measure, compare, write tables and a picture."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click

from benchmarks.cases import PEERS
from benchmarks.networks import RECIPES
from benchmarks.plans import PRESETS, pairs
from benchmarks.plot import plot
from benchmarks.report import disagrees, insert
from benchmarks.run import Run
from benchmarks.systems import SYSTEMS

_DEFAULT_PEERS = "mlcalc,mlcalc-torch,pyg,naive"


def _names(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Reads names separated by commas, each of them known."""

    def read(_context: click.Context, _parameter: click.Parameter, value: str) -> list[str]:
        names = [name for name in value.split(",") if name]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise click.BadParameter(f"{unknown[0]!r} is unknown: choose from {', '.join(known)}")
        return names

    return read


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--preset", type=click.Choice([*PRESETS, "full"]), default="targets", help="What to measure.")
@click.option("--systems", callback=_names(SYSTEMS), default="", help="Instead: these, " + ", ".join(SYSTEMS) + ".")
@click.option("--networks", callback=_names(RECIPES), default="", help="Instead: these, " + ", ".join(RECIPES) + ".")
@click.option("--peers", callback=_names(PEERS), default=_DEFAULT_PEERS, help="Codes: " + ", ".join(PEERS) + ".")
@click.option("--dtypes", callback=_names(("float32", "float64")), default="float32", help="Precisions.")
@click.option("--threads", default=os.cpu_count() or 1, type=click.IntRange(1), help="Threads of every code.")
@click.option("--repeats", default=7, type=click.IntRange(2), help="Samples of each time, taken in turns.")
@click.option("--memory-gib", type=float, help="Limit of each process.  [default: 90 % of the memory]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", help="Where all codes run.")
@click.option("--patience-s", default=600.0, help="A call that takes longer is given up.")
@click.option("--mlip-python", type=click.Path(dir_okay=False), help="Interpreter that has InstaDeep's mlip.")
@click.option("--output", type=click.Path(file_okay=False, path_type=Path), default="benchmark_output", help="Folder.")
@click.option("--into", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Document for the tables.")
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
    into: Path | None,
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
        pythons={"mlip": str(Path(mlip_python).absolute())} if mlip_python else {},
    )
    report = run.report(chosen, peers, dtypes)
    report.save(output / "benchmarks.json")
    (output / "benchmarks.md").write_text(report.markdown(), encoding="utf-8")
    plot(report, output / "benchmarks.png")
    if into is not None:
        insert(report.markdown() + f"\n![the same as a picture](benchmarks-{device}.png)\n", into, device)
        plot(report, into.parent / f"benchmarks-{device}.png")
    click.echo(report.markdown())
    wrong = [result.case.label for result in report.measurements if disagrees(result)]
    if wrong:
        raise click.ClickException(f"forces disagree with the float64 reference: {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
