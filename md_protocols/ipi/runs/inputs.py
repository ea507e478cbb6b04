"""Input files of i-PI, made from settings."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from ase import Atoms, units
from ase.geometry.cell import cell_to_cellpar, cellpar_to_cell
from numpy.typing import NDArray

from mlcalc.ground.errors import Use

from ...errors import ConfigError, ResultFileError
from ...results import Quantity
from ..responder import IPI_UNITS

ADD_VECTOR = Use(
    "cell",
    python="give it a third vector, with vacuum (atoms.center(vacuum=10, axis=2))",
    file="give it a third vector, with vacuum, in the file",
)
ENSEMBLES = ("nve", "nvt", "npt", "remd", "vibrations")
THERMOSTATS = {"bussi": "svr", "langevin": "langevin", "pile_g": "pile_g", "pile_l": "pile_l"}  # to i-PI's words
PREFIX = "sim"
_FS = 41.341373  # atomic units of time, ipi/utils/units.py
_VACUUM = 20.0  # Å around a cluster, in a cell that i-PI needs and nothing depends on


@dataclass(frozen=True)
class IPISettings:
    """What fixes a run of i-PI, apart from its length; plain JSON values."""

    ensemble: Annotated[str, Quantity("nve, nvt, npt, remd or vibrations")]
    temperature_K: Annotated[tuple[float, ...], Quantity("several for replica exchange only", "K")]  # noqa: N815
    timestep_fs: Annotated[float, Quantity("time step", "fs")]
    beads: Annotated[int, Quantity("of the ring polymers; 1 is classical")]
    thermostat: Annotated[str, Quantity("bussi, langevin, pile_g or pile_l")]
    tau_fs: Annotated[float, Quantity("relaxation time of the thermostat", "fs")]
    pressure_GPa: Annotated[float | None, Quantity("of ensemble npt", "GPa")]  # noqa: N815
    barostat_tau_fs: Annotated[float, Quantity("relaxation time of the barostat", "fs")]
    exchange_interval: Annotated[int, Quantity("mean number of steps between exchanges of replicas")]
    log_interval: Annotated[int, Quantity("steps between rows of the log")]
    trajectory_interval: Annotated[int, Quantity("steps between frames")]
    checkpoint_interval: Annotated[int, Quantity("steps between checkpoints")]
    seed: Annotated[int, Quantity("of velocities and thermostats")]
    fixed: Annotated[tuple[int, ...], Quantity("indices of the fixed atoms")]
    displacement: Annotated[float, Quantity("of vibrations", "Å")]
    remove_drift: Annotated[bool, Quantity("whether the center of mass is kept at rest")]
    batch_size: Annotated[int, Quantity("structures in a request")]
    virial: Annotated[str, Quantity('how it is had; "none" has no pressure in the log')]

    def as_dict(self) -> dict[str, Any]:
        """As folders have them."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> IPISettings:
        """The settings of a folder, also of an earlier version's; ResultFileError where they are not those of a run."""
        found: dict[str, Any] = upgraded(stored)
        found |= {name: tuple(value) for name, value in found.items() if isinstance(value, list)}
        try:
            return cls(**found)
        except TypeError as error:
            raise ResultFileError(f"the settings stored are not those of a run of i-PI ({error})") from error


def upgraded(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of earlier versions, which had i-PI's word for the thermostat, under today's names."""
    found = {"temperature_K" if name == "temperatures_K" else name: value for name, value in stored.items()}
    if found.get("thermostat") == "svr":
        found["thermostat"] = "bussi"
    return found


def properties_of(settings: IPISettings) -> list[str]:
    """Columns of the log, in i-PI's words with units."""
    columns = ["step", "time{femtosecond}", "conserved{electronvolt}", "temperature{kelvin}", "potential{electronvolt}"]
    columns.append("kinetic_md{electronvolt}")
    if settings.beads > 1:  # the virial (centroid) and the primitive (thermodynamic) estimators
        columns += ["kinetic_cv{electronvolt}", "kinetic_td{electronvolt}"]
    if settings.virial != "none":
        columns.append("pressure_cv{gigapascal}" if settings.beads > 1 else "pressure_md{gigapascal}")
    if settings.ensemble == "npt":
        columns.append("volume{angstrom3}")
    if settings.ensemble == "remd":
        columns.append("ensemble_temperature{kelvin}")
    return columns


def simulation_input(atoms: Atoms, settings: IPISettings, steps: int, address: str, structure_file: str) -> str:
    """The text of input.xml.

    address: of the unix socket, with whatever prefix i-PI is started with.
    Numbers are written with 17 digits into checkpoints too, so that a continued run loses nothing by them.
    """
    root = ET.Element(
        "simulation",
        verbosity="low",
        safe_stride="1",
        floatformat="%.16e",
        threading=str(settings.ensemble == "remd"),  # replicas step side by side, so that they come in one batch
    )
    root.append(_output(settings))
    _add(root, "total_steps", _steps(atoms, settings, steps))
    ET.SubElement(_add(root, "prng"), "seed").text = str(settings.seed)
    socket = _add(root, "ffsocket", name="mlcalc", mode="unix", pbc="False")
    _add(socket, "address", address)
    _add(socket, "latency", "1e-4")
    if settings.batch_size > 1:
        _add(socket, "batch_size", settings.batch_size)
    for k, temperature in enumerate(settings.temperature_K):
        root.append(_system(atoms, settings, temperature, structure_file, _label(settings, k)))
    if settings.ensemble == "remd":
        remd = _add(_add(root, "smotion", mode="remd"), "remd")
        _add(remd, "stride", float(settings.exchange_interval))
        _add(remd, "krescale", "True")
    ET.indent(root)
    return ET.tostring(root, encoding="unicode") + "\n"


def structure_text(atoms: Atoms) -> str:
    """The structure in i-PI's xyz, with 16 digits, in Å.

    i-PI wants the first cell vector along x and the second in the xy plane: `aligned` makes it so.
    """
    a, b, c, alpha, beta, gamma = cell_to_cellpar(box(atoms))
    comment = f"# CELL(abcABC): {a:.14f} {b:.14f} {c:.14f} {alpha:.14f} {beta:.14f} {gamma:.14f} "
    rows = [
        f"{symbol} {x:.16e} {y:.16e} {z:.16e}"
        for symbol, (x, y, z) in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True)
    ]
    return "\n".join([str(len(atoms)), f"{comment}positions{{angstrom}} cell{{angstrom}}", *rows]) + "\n"


def aligned(atoms: Atoms) -> Atoms:
    """The structure turned as i-PI wants it, velocities with it; a cluster gets no cell here.

    ConfigError for a structure that is periodic in some directions and has no cell in the others.
    """
    turned: Atoms = atoms.copy()
    if not atoms.pbc.any():
        return turned
    if atoms.cell.rank < 3:
        raise ConfigError(
            f"the cell {atoms.cell.array.tolist()} has no volume, and i-PI's has one",
            setting="cell",
            remedies=[ADD_VECTOR],
        )
    lower = cellpar_to_cell(cell_to_cellpar(atoms.cell.array))
    rotation = np.linalg.solve(atoms.cell.array, lower)  # a mirror image for left-handed cells: the same energies
    turned.set_cell(lower)
    turned.positions[:] = atoms.positions @ rotation
    turned.set_momenta(atoms.get_momenta() @ rotation, apply_constraint=False)
    return turned


def box(atoms: Atoms) -> NDArray[np.float64]:
    """The cell that i-PI is given, Å: one around the atoms where there is none."""
    if atoms.pbc.any():
        cell: NDArray[np.float64] = atoms.cell.array
        return cell
    extent = np.ptp(atoms.positions, axis=0) if len(atoms) else np.zeros(3)
    return np.diag(extent + 2 * _VACUUM)


def _add(parent: ET.Element, tag: str, value: object = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    if value is not None:
        element.text = f" {value} "
    return element


def _array(values: Sequence[float] | NDArray[np.float64]) -> str:
    return "[" + ", ".join(f"{value:.16e}" for value in values) + "]"


def _output(settings: IPISettings) -> ET.Element:
    """What is written, the checkpoint last: what it stands for is on disk when it is."""
    output = ET.Element("output", prefix=PREFIX)
    if settings.ensemble != "vibrations":
        log = _add(output, "properties", stride=str(settings.log_interval), filename="out")
        log.text = f" [ {', '.join(properties_of(settings))} ] "
        stride = str(settings.trajectory_interval)  # ASE's format has 8 decimals, i-PI's own 6 digits
        frames = {"stride": stride, "format": "ase", "cell_units": "ase"}
        _add(output, "trajectory", "positions{ase}", filename="pos", **frames)
        if settings.beads > 1:
            frames = {"stride": stride, "format": "xyz", "cell_units": "angstrom"}
            _add(output, "trajectory", "x_centroid{angstrom}", filename="centroid", **frames)
    stride = str(settings.checkpoint_interval)
    _add(output, "checkpoint", filename="checkpoint", stride=stride, overwrite="False")
    return output


def _steps(atoms: Atoms, settings: IPISettings, steps: int) -> int:
    return 3 * len(atoms) + 1 if settings.ensemble == "vibrations" else steps


def _label(settings: IPISettings, k: int) -> str:
    return f"replica{k}" if len(settings.temperature_K) > 1 else ""


def _system(atoms: Atoms, settings: IPISettings, temperature: float, file: str, prefix: str) -> ET.Element:
    system = ET.Element("system", {"prefix": prefix} if prefix else {})
    initial = _add(system, "initialize", nbeads=str(settings.beads))
    _add(initial, "file", file, mode="xyz")
    _add(initial, "masses", _array(atoms.get_masses()), mode="manual", units="dalton")
    if settings.ensemble != "vibrations":
        initial.append(_velocities(atoms, settings, temperature))
    _add(_add(system, "forces"), "force", forcefield="mlcalc")
    ensemble = _add(system, "ensemble")
    _add(ensemble, "temperature", f"{temperature:.10g}", units="kelvin")
    if settings.pressure_GPa is not None:
        _add(ensemble, "pressure", f"{settings.pressure_GPa:.10g}", units="gigapascal")
    system.append(_motion(settings))
    return system


def _velocities(atoms: Atoms, settings: IPISettings, temperature: float) -> ET.Element:
    """Those of the structure, where it has some and there is one bead; else drawn at the temperature."""
    if settings.beads == 1 and settings.ensemble != "remd" and atoms.get_momenta().any():
        speeds = atoms.get_velocities() * (units.fs * IPI_UNITS.angstrom / _FS)
        element = ET.Element("velocities", mode="manual", units="atomic_unit")
        element.text = f" {_array(speeds.ravel())} "
        return element
    element = ET.Element("velocities", mode="thermal", units="kelvin")
    element.text = f" {temperature:.10g} "
    return element


def _motion(settings: IPISettings) -> ET.Element:
    if settings.ensemble == "vibrations":
        motion = ET.Element("motion", mode="vibrations")
        fd = _add(motion, "vibrations", mode="fd")
        _add(fd, "pos_shift", f"{settings.displacement * IPI_UNITS.angstrom:.10g}")
        _add(fd, "prefix", "vibrations")
        _add(fd, "asr", "none")
        return motion
    motion = ET.Element("motion", mode="dynamics")
    _add(motion, "fixcom", settings.remove_drift)
    if settings.fixed:
        _add(motion, "fixatoms", list(settings.fixed))
    mode = {"remd": "nvt"}.get(settings.ensemble, settings.ensemble)
    dynamics = _add(motion, "dynamics", mode=mode)
    _add(dynamics, "timestep", f"{settings.timestep_fs:.10g}", units="femtosecond")
    if settings.ensemble == "nve":
        return motion
    if settings.ensemble == "npt":
        barostat = _add(dynamics, "barostat", mode="isotropic")
        _add(barostat, "tau", f"{settings.barostat_tau_fs:.10g}", units="femtosecond")
        langevin = _add(barostat, "thermostat", mode="langevin")
        _add(langevin, "tau", f"{settings.tau_fs:.10g}", units="femtosecond")
    thermostat = _add(dynamics, "thermostat", mode=THERMOSTATS[settings.thermostat])
    _add(thermostat, "tau", f"{settings.tau_fs:.10g}", units="femtosecond")
    return motion
