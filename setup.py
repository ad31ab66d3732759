"""Only what pyproject.toml cannot say: the folder of each import package, and the C extension."""

from setuptools import Extension, find_namespace_packages, setup

FOLDERS = {
    "harness": "harness",
    "runtime": "runtime",
    "reports": "reports",
    "scenarios": "scenarios",
    "vm_images": "vm-images",
}

setup(
    package_dir={f"pybench.{name}": folder for name, folder in FOLDERS.items()},
    packages=[
        package
        for name, folder in FOLDERS.items()
        # Folders that hold data alone, such as an image's recipe, are packages too.
        for package in (
            f"pybench.{name}",
            *(f"pybench.{name}.{sub}" for sub in find_namespace_packages(folder, exclude=["*__pycache__*"])),
        )
    ],
    ext_modules=[
        Extension(
            "pybench.runtime.container._spawn",
            sources=[
                "runtime/container/_listener.c",
                "runtime/container/_pipe_latency.c",
                "runtime/container/_shared_memory.c",
                "runtime/container/_spawn.c",
                "runtime/container/_spawn_child.c",
                "runtime/container/_spawn_parent.c",
                "runtime/container/_spawn_process.c",
                "runtime/container/_spawn_tree.c",
            ],
            depends=[
                "runtime/container/_listener.h",
                "runtime/container/_pipe_latency.h",
                "runtime/container/_raw_call.h",
                "runtime/container/_shared_memory.h",
                "runtime/container/_spawn_child.h",
                "runtime/container/_spawn_parent.h",
                "runtime/container/_spawn_process.h",
                "runtime/container/_spawn_tree.h",
            ],
            extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"],
        )
    ],
)
