"""Build what would be released, install it as users would, and see whether it works.

sdist and wheel are installed in empty environments without extras, the wheel with each extra;
`smoke.py` runs there, outside the checkout. The sdist's tests are collected, and the quick ones
run, in an environment made from the sdist alone.
"""

from __future__ import annotations

import shutil
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from environments import EXTRAS, ROOT, build, environment, run

#: Tests of the unpacked sdist that take a minute: files that they read are all there, and more.
QUICK = ("README.md", "tests/test_structure.py", "tests/test_packaging.py", "tests/test_readme.py")


def smoke(artifact: Path, folder: Path, *extras: str) -> None:
    """Install an artifact with extras in an empty environment, and try it out."""
    start = time.perf_counter()
    wanted = f"{artifact}[{','.join(extras)}]" if extras else artifact
    with environment(wanted) as env:
        env.check()
        said = env.run("-W", "error", shutil.copy(ROOT / "tests" / "smoke.py", folder), *extras)
    seconds = time.perf_counter() - start
    print(f"{Path(wanted).name} ({seconds:.0f} s)\n  " + "\n  ".join(said.splitlines()), flush=True)


def sdist_tests(sdist: Path, folder: Path) -> None:
    """Run tests of the unpacked sdist, which know nothing of the checkout."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    source = folder / sdist.name.removesuffix(".tar.gz")
    with environment("--editable", f"{source}[test]") as env:
        collected = run(
            env.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--collect-only", cwd=source
        )
        ran = run(env.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", *QUICK, cwd=source)
    for said in (collected, ran):
        print(f"tests of the sdist: {said.splitlines()[-1]}", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="arrayopt-release-") as name:
        folder = Path(name)
        sdist, wheel = build(folder)
        print(run(sys.executable, "-m", "twine", "check", "--strict", sdist, wheel, cwd=folder))
        smoke(sdist, folder)
        smoke(wheel, folder)
        for extra in EXTRAS:
            smoke(wheel, folder, extra)
        sdist_tests(sdist, folder)


if __name__ == "__main__":
    main()
