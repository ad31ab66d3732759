"""A bare-metal guest of some hundred bytes: it says `kernel` on the line of marks, and halts."""

from __future__ import annotations

import subprocess
from pathlib import Path

SOURCE = """
    .section .note.Xen, "a", @note
    .balign 4
    .long 4, 8, 18          /* XEN_ELFNOTE_PHYS32_ENTRY: entered through PVH, in 32-bit protected mode */
    .asciz "Xen"
    .quad start

    .text
    .code32
    .globl start
start:
    movw $0x2f8, %dx
    movl $text, %esi
    movl $7, %ecx
    rep outsb
    cli
halt:
    hlt
    jmp halt
text:
    .ascii "kernel\\n"
"""
SCRIPT = """
ENTRY(start)
PHDRS { all PT_LOAD FLAGS(5); note PT_NOTE FLAGS(4); }
SECTIONS {
    . = 0x100000;
    .text : { *(.text) } :all
    .note.Xen : { *(.note.Xen) } :all :note
    /DISCARD/ : { *(.note.GNU-stack) *(.note.gnu.property) *(.data) *(.bss) }
}
"""


def assemble(folder: Path) -> Path:
    """Make the guest's kernel in `folder`."""
    source, script, kernel = folder / "bare.S", folder / "bare.lds", folder / "bare"
    source.write_text(SOURCE, encoding="ascii")
    script.write_text(SCRIPT, encoding="ascii")
    command = ["gcc", "-nostdlib", "-static", "-no-pie", "-Wl,--build-id=none", f"-Wl,-T,{script}"]
    subprocess.run([*command, "-o", str(kernel), str(source)], check=True)
    return kernel
