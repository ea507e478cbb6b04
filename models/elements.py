"""Chemical symbols and atomic numbers, for settings that name elements."""

from __future__ import annotations

from collections.abc import Iterable

from .errors import ModelError

SYMBOLS: tuple[str, ...] = tuple(
    "X H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se "
    "Br Kr Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Pr Nd Pm Sm Eu Gd Tb Dy "
    "Ho Er Tm Yb Lu Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Ac Th Pa U Np Pu Am Cm Bk Cf "
    "Es Fm Md No Lr Rf Db Sg Bh Hs Mt Ds Rg Cn Nh Fl Mc Lv Ts Og".split()
)
_NUMBERS = {symbol: number for number, symbol in enumerate(SYMBOLS)}


def atomic_number(element: str | int) -> int:
    """Atomic number of a symbol or of an atomic number (1 to 118)."""
    number = _NUMBERS.get(element, 0) if isinstance(element, str) else int(element)
    if not 1 <= number < len(SYMBOLS) or (not isinstance(element, str) and number != element):
        raise ModelError(
            f"{element!r} is not an element: give a chemical symbol (H ... Og) or an atomic number 1 to 118"
        )
    return number


def element_symbols(elements: Iterable[str | int]) -> tuple[str, ...]:
    """Symbols of the elements, by atomic number, refusing duplicates and an empty list."""
    numbers = sorted(atomic_number(element) for element in elements)
    if not numbers:
        raise ModelError("elements is empty: name at least one element, for example ('Cu',)")
    if len(set(numbers)) != len(numbers):
        raise ModelError(f"elements lists an element twice: {tuple(SYMBOLS[n] for n in numbers)}")
    return tuple(SYMBOLS[number] for number in numbers)
