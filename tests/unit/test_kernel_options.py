"""What a guest's kernel has to be able to do, and how it is found out."""

from __future__ import annotations

import gzip

import pytest

from pybench.runtime.errors import InputError
from pybench.vm_images import inputs, kernel_options

GOOD = dict.fromkeys(kernel_options.needed_options("erofs", overlay=True), "y")


def test_options_are_read_from_a_configuration() -> None:
    """Only what is set counts; text loses its quotes."""
    text = '# CONFIG_A is not set\nCONFIG_B=y\nCONFIG_C=m\nCONFIG_D="text"\nCONFIG_E=64\n'
    assert kernel_options.parse_options(text) == {
        "CONFIG_B": "y",
        "CONFIG_C": "m",
        "CONFIG_D": "text",
        "CONFIG_E": "64",
    }


def test_options_are_read_from_the_kernel_itself() -> None:
    """A kernel may carry its configuration; one that does not, or a damaged one, tells nothing."""
    packed = gzip.compress(b"CONFIG_PVH=y\n")
    assert kernel_options.embedded_options(b"code IKCFG_ST" + packed + b"IKCFG_ED") == {"CONFIG_PVH": "y"}
    assert kernel_options.embedded_options(b"code") is None
    assert kernel_options.embedded_options(b"IKCFG_ST no gzip") is None


def test_every_missing_option_is_named() -> None:
    """All that is missing is in one error, with the module that would do."""
    options = {**GOOD, "CONFIG_PVH": "n", "CONFIG_EROFS_FS": "m"}
    needed = kernel_options.needed_options("erofs", overlay=True)
    with pytest.raises(InputError) as caught:
        kernel_options.check_options(options, needed, (), "the kernel")
    assert "CONFIG_PVH=y," in caught.value.message
    assert "CONFIG_EROFS_FS=y (or m, and erofs among kernel.modules)" in caught.value.message
    assert "CONFIG_NET" not in caught.value.message


def test_a_module_that_is_loaded_will_do() -> None:
    """An option as a module is enough where init loads it, and built in always."""
    needed = kernel_options.needed_options("erofs", overlay=True)
    kernel_options.check_options(GOOD, needed, (), "the kernel")
    kernel_options.check_options({**GOOD, "CONFIG_EROFS_FS": "m"}, needed, ["erofs"], "the kernel")


def test_only_what_the_form_needs_is_asked_for() -> None:
    """A kernel without disks will do for an initramfs, and one without overlay for a read-only disk."""
    for_initramfs = kernel_options.needed_options("", overlay=False)
    for_disk = kernel_options.needed_options("erofs", overlay=False)
    assert "CONFIG_VIRTIO_BLK" not in for_initramfs
    assert for_disk.keys() - for_initramfs.keys() == {
        "CONFIG_VIRTIO_PCI",
        "CONFIG_VIRTIO_BLK",
        "CONFIG_EROFS_FS",
    }


def test_an_option_without_effect_is_named() -> None:
    """What this version of the kernel did not take over is an error, not a silent difference."""
    wanted = {"CONFIG_PVH": "y", "CONFIG_GONE": "y", "CONFIG_NR_CPUS": "64"}
    with pytest.raises(InputError, match=r"no effect on this version of the kernel: CONFIG_GONE$"):
        kernel_options.check_taken(wanted, {"CONFIG_PVH": "y", "CONFIG_NR_CPUS": "64"}, "tiny.config")


def test_the_tiny_kernel_is_asked_for_all_that_every_form_needs() -> None:
    """The committed list has each option built in, since such a kernel has no modules."""
    options = kernel_options.parse_options(inputs.kernel_configuration("tiny").read_text(encoding="utf-8"))
    needed = kernel_options.needed_options("erofs", overlay=True)
    kernel_options.check_options(options, needed, (), "tiny")
    with pytest.raises(InputError, match="no options for a kernel called huge") as caught:
        inputs.kernel_configuration("huge")
    assert "tiny" in caught.value.hint
