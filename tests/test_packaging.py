"""What users install: the wheel, its declared needs, the lock, the licence."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import packages_distributions
from pathlib import Path, PurePosixPath

import pathspec
import pytest
from source_tree import OURS, ROOT, imports, relative, sources

from jobs.doctor import EXTRAS

MEBIBYTE = 2**20
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(text: str) -> str:
    return normal(re.split(r"[\[<>=!~; ]", text, maxsplit=1)[0])


@pytest.fixture(scope="module")
def wheel_file(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(out)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    return next(out.glob("maskmill-*.whl"))


@pytest.fixture(scope="module")
def wheel(wheel_file) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel):
    tops = {PurePosixPath(name).parts[0] for name in wheel.namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == set(OURS)
    assert not [name for name in wheel.namelist() if "__pycache__" in name or "test_" in name]


def test_the_wheel_holds_every_file_that_the_program_reads(wheel):
    present = {
        relative(path)
        for package in OURS
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".log"
    }
    assert present <= set(wheel.namelist())
    names = "\n".join(sorted(wheel.namelist()))
    for needed in (
        r"pipeline/models/weights/unet-nuclei/config\.json",
        r"pipeline/models/weights/unet-nuclei/.+\.safetensors",
        r"pipeline/report/.+\.html",
        r"jobs/configs/.+\.toml",
        r"maskmill-[^/]+\.dist-info/licenses/LICENSE",
    ):
        assert re.search(f"^{needed}$", names, re.MULTILINE), f"no {needed} in the wheel"


def test_the_wheel_says_what_the_project_says(wheel):
    name = next(name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = wheel.read(name).decode()
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert f"\nRequires-Python: {PROJECT['requires-python']}\n" in metadata
    needed = re.findall("^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert sum("extra ==" not in text for text in needed) == len(PROJECT["dependencies"])


@pytest.fixture(scope="module")
def installed(wheel_file, tmp_path_factory) -> Path:
    """An environment that holds the wheel, and sees the libraries of this one."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "venv", with_pip=False)
    ours = ["--python", str(folder / "venv" / "bin" / "python")]
    line = [sys.executable, "-m", "pip", *ours, "install", "--quiet", "--no-deps", "--no-index"]
    done = subprocess.run(
        [*line, "--disable-pip-version-check", str(wheel_file)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (site,) = (folder / "venv" / "lib").glob("python*/site-packages")
    # Behind its own packages: what the wheel lacks is not found in the sources.
    (site / "libraries.pth").write_text("\n".join(site_packages()) + "\n", encoding="utf-8")
    return folder


def site_packages() -> list[str]:
    """Where the libraries of this environment lie."""
    return [path for path in sys.path if path.endswith("site-packages")]


def in_other_folder(installed: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A command of the installed wheel, from a folder that knows nothing of the sources."""
    elsewhere = installed / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    return subprocess.run(
        [str(installed / "venv" / "bin" / words[0]), *words[1:]],
        cwd=elsewhere,
        env={"PATH": "/usr/bin:/bin", "HOME": str(elsewhere)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_installed_command_runs_from_another_folder(installed):
    version = in_other_folder(installed, "maskmill", "--version")
    assert version.stdout == f"maskmill {PROJECT['version']}\n", version.stderr
    usage = in_other_folder(installed, "maskmill", "--help")
    assert usage.returncode == 0, usage.stderr
    assert "maskmill label --input photos/" in usage.stdout
    models = in_other_folder(installed, "maskmill", "models")
    assert models.returncode == 0, models.stderr
    assert re.search(r"^  unet-nuclei .*here", models.stdout, re.MULTILINE)
    keys = in_other_folder(installed, "maskmill", "config", "--toml")
    assert "[tiling]" in keys.stdout, keys.stderr


def test_the_installed_package_is_the_wheel_s_and_labels(installed):
    code = (
        "import maskmill, jobs, pipeline, schemas, numpy as np\n"
        "print(*(package.__file__ for package in (maskmill, jobs, pipeline, schemas)), sep='\\n')\n"
        "pixels = np.zeros((64, 64), np.uint8); pixels[16:32, 16:32] = 200\n"
        "print(len(maskmill.load('otsu', task='instance')(pixels)))"
    )
    done = in_other_folder(installed, "python", "-c", code)
    assert done.returncode == 0, done.stderr
    *files, count = done.stdout.split()
    assert all(Path(file).is_relative_to(installed) for file in files), files
    assert count == "1"


def test_the_upload_to_a_cluster_holds_the_program_alone():
    lines = (ROOT / ".rayignore").read_text("utf-8").splitlines()
    ignored = pathspec.GitIgnoreSpec.from_lines(lines)
    for left_out in (
        "tests/conftest.py",
        "docs/data-format.md",
        "demo/input/a.png",
        ".venv/bin/ray",
    ):
        assert ignored.match_file(left_out), left_out
    for path in (ROOT / "pipeline").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert not ignored.match_file(relative(path)), relative(path)


def test_bundled_weights_stay_small():
    weights = sorted((ROOT / "pipeline" / "models" / "weights").rglob("*.safetensors"))
    assert weights
    for path in weights:
        assert path.stat().st_size <= 8 * MEBIBYTE, relative(path)
        assert (path.parent / "config.json").is_file()
        assert (path.parent / "README.md").is_file(), f"{relative(path)} has no model card"


def test_every_import_is_a_declared_dependency():
    declared = {requirement_name(text) for text in PROJECT["dependencies"]}
    extras = [extra for name, extra in PROJECT["optional-dependencies"].items() if name != "all"]
    declared |= {requirement_name(text) for extra in extras for text in extra}
    declared.add("triton")  # comes with torch's CUDA builds; without it nothing imports the kernels
    owners = packages_distributions()
    missing = set()
    for path in sources():
        for item in imports(path):
            top = item.module.split(".")[0]
            if top in OURS or top in sys.stdlib_module_names:
                continue
            if not declared & {normal(name) for name in owners.get(top, [top])}:
                missing.add(f"{relative(path)}:{item.line} imports {top}")
    assert not missing, "\n".join(sorted(missing))


def test_extras_are_what_the_doctor_looks_for_and_all_means_all():
    extras = PROJECT["optional-dependencies"]
    assert {"all", "dicom", "geo", "gpu-fast", "heif", "train"} <= set(extras)
    assert set(extras) == {*EXTRAS, "all"}
    (everything,) = extras["all"]
    assert everything == f"maskmill[{','.join(sorted(EXTRAS))}]"
    owners = packages_distributions()
    for extra, module in EXTRAS.items():
        (needed,) = extras[extra]
        name = requirement_name(needed)
        # Triton is for Linux alone.
        assert name in map(normal, owners.get(module, [name]))


def test_the_lock_pins_and_hashes_everything_and_names_no_host():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    assert "://" not in text
    assert not re.search(r"^\s*--(index-url|extra-index-url|find-links|trusted-host)", text, re.M)
    entries = re.split(r"\n(?=\S)", text.strip())
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z,-]+\])?==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_covers_what_is_declared():
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    locked = {normal(name) for name in re.findall(r"^([A-Za-z0-9._-]+)(?:\[.*\])?==", text, re.M)}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    declared = {requirement_name(item) for item in (*PROJECT["dependencies"], *groups["dev"])}
    assert not declared - locked


def test_no_file_names_a_machine_or_a_registry():
    pattern = re.compile(r"(?<![\w.])/(?:work/\w|root/\.|home/\w+/)|--(?:extra-)?index-url[ =]http")
    folders = (*OURS, "tests", "bench", "docs", "examples", ".ci")
    files = [path for name in folders for path in (ROOT / name).rglob("*") if path.is_file()]
    # .git is a file in a worktree, and says where the repository lies.
    files += [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    ends = {".py", ".md", ".toml", ".txt", ".yaml", ".html", ".js", ".css", ".lock", ".sh", ""}
    found = [
        relative(path)
        for path in files
        if path.suffix in ends and pattern.search(path.read_text("utf-8", errors="replace"))
    ]
    assert not found


def test_the_licence_is_the_plain_apache_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.strip().startswith("Apache License\n")
    assert "END OF TERMS AND CONDITIONS" in text
