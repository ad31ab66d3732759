"""The kernel modules that a recipe names, with everything they depend on, in the order to load them."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

from pybench.runtime.errors import InputError
from pybench.vm_images import elf, kernel


@dataclass(frozen=True, slots=True)
class Module:
    """One module; `name` is spelled with underscores, as the kernel does."""

    name: str
    content: bytes


def select_modules(names: list[str], tree: Path, key: str) -> list[Module]:
    """The named modules and their dependencies, each after what it depends on.

    Args:
        names: as in a recipe; hyphens and underscores are the same.
        tree: the `lib/modules/RELEASE` directory of an unpacked kernel package.
        key: what to call the list in an error.

    A name that the kernel has built in needs no module and is left out. Dependencies come from
    the modules themselves (`depends=` in their .modinfo section), because modules.dep is only
    written when a kernel package is installed.

    Raises:
        InputError: the kernel has no such module, or one is damaged.
    """
    if not names:
        return []
    available, built_in = _available(tree), _built_in(tree)
    selected: dict[str, Module] = {}

    def select(name: str) -> None:
        if name in selected or name in built_in:
            return
        if name not in available:
            near = difflib.get_close_matches(name, available, n=3)
            raise InputError(
                f"{key}: the kernel has no module {name}", f"did you mean {', '.join(near)}?" if near else ""
            )
        module = Module(name, kernel.unpacked_module(available[name]))
        for dependency in _dependencies(module):
            select(dependency)
        selected[name] = module

    for name in names:
        select(_kernel_name(name))
    return list(selected.values())


def unavailable(names: list[str], tree: Path) -> list[str]:
    """Those of the named modules that the kernel neither has in `tree` nor built in."""
    known = _available(tree).keys() | _built_in(tree)
    return [name for name in names if _kernel_name(name) not in known]


def _available(tree: Path) -> dict[str, Path]:
    return {_kernel_name(path.name): path for path in sorted(tree.glob("**/*.ko*"))}


def _built_in(tree: Path) -> set[str]:
    listing = tree / "modules.builtin"
    if not listing.is_file():
        return set()
    return {_kernel_name(Path(line).name) for line in listing.read_text().splitlines()}


def _dependencies(module: Module) -> list[str]:
    content = elf.Elf(module.content, f"the module {module.name}")
    for field in content.section(".modinfo").split(b"\0"):
        key, _, value = field.partition(b"=")
        if key == b"depends":
            return [_kernel_name(name) for name in value.decode(errors="replace").split(",") if name]
    return []


def _kernel_name(name: str) -> str:
    return name.partition(".ko")[0].replace("-", "_")
