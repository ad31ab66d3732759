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
            "pybench.runtime.container.spawn._spawn",
            sources=[
                "runtime/container/spawn/listener.c",
                "runtime/container/spawn/pipe_latency.c",
                "runtime/container/spawn/shared_memory.c",
                "runtime/container/spawn/_spawn.c",
                "runtime/container/spawn/child.c",
                "runtime/container/spawn/parent.c",
                "runtime/container/spawn/process.c",
                "runtime/container/spawn/tree.c",
            ],
            depends=[
                "runtime/container/spawn/listener.h",
                "runtime/container/spawn/pipe_latency.h",
                "runtime/container/spawn/raw_call.h",
                "runtime/container/spawn/shared_memory.h",
                "runtime/container/spawn/child.h",
                "runtime/container/spawn/parent.h",
                "runtime/container/spawn/process.h",
                "runtime/container/spawn/tree.h",
            ],
            extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror"],
        )
    ],
)
