"""Images with another kernel, as `pybench ab --b kernel=…` measures them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pybench import vm_images
from pybench.harness.ab.kernels import Variants
from pybench.harness.errors import InputError
from pybench.vm_images import Image


def test_a_variant_differs_in_its_kernel_alone(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guest boots the file that was named, with the same root filesystem; no recipe stays behind."""
    monkeypatch.setenv("PYBENCH_RECIPES", str(tmp_path))
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(image.kernel.read_bytes())
    variants = Variants()
    name = variants.add("minimal", str(kernel))
    assert variants.add("minimal", str(kernel)) == name
    with variants.recipes():
        assert name in vm_images.recipes()
        made = vm_images.build(name, progress=lambda _text: None)
        try:
            assert made.name == name
            assert made.digests == image.digests
        finally:
            vm_images.remove(name, progress=lambda _text: None)
    assert os.environ["PYBENCH_RECIPES"] == str(tmp_path)
    assert name not in vm_images.recipes()


@pytest.mark.parametrize(
    ("kernel", "said"), [("./absent", "there is no such file"), ("nosuch", "known: tiny")]
)
def test_a_kernel_that_is_not_there_is_bad_input(kernel: str, said: str) -> None:
    """Told before anything is measured."""
    variants = Variants()
    name = variants.add("minimal", kernel)
    with pytest.raises(InputError) as raised, variants.recipes():
        vm_images.build(name, progress=lambda _text: None)
    assert said in f"{raised.value.message}; {raised.value.hint}"
