"""What the documents name must be there."""

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
OPERATING = ROOT / "docs" / "operating.md"
MAKEFILE = (ROOT / "Makefile").read_text()
# What `make run` makes, and what stands for something else.
NOT_IN_THE_TREE = {"var", ".venv", "staticfiles", "forecasts.py"}


def name(document: Path) -> str:
    return str(document.relative_to(ROOT))


def named_paths(text: str) -> set[str]:
    """Return what looks like a path of the tree among the words set as code: `billing/locks.py`, `var/mail`."""
    words = re.findall(r"`([\w.][\w./-]*)`", text)
    return {
        word for word in words if "/" in word or word.endswith((".py", ".md", ".txt")) or word == "Procfile"
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_to_files_that_exist(document):
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text())
    relative = [urlsplit(target).path for target in targets if not urlsplit(target).scheme]

    assert [path for path in relative if not (document.parent / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_paths_lead_to_files_that_exist(document):
    paths = named_paths(document.read_text())
    ours = {path for path in paths if path.partition("/")[0] not in NOT_IN_THE_TREE}

    assert [path for path in sorted(ours) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_make_has_the_targets_and_variables_that_are_named(document):
    commands = re.findall(r"(?:`|^ {4,})make ([^`\n]*)", document.read_text(), re.MULTILINE)
    targets = {command.split()[0] for command in commands}
    variables = {variable for command in commands for variable in re.findall(r"\b([A-Z_]+)=", command)}

    assert targets <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert variables <= set(re.findall(r"^([A-Z_]+) =", MAKEFILE, re.MULTILINE))


def test_every_environment_variable_is_documented_and_no_other():
    read = {
        "config/settings.py": r'\benv\.\w+\(\s*"([A-Z_]+)"',
        "config/run.py": r'\bis_set\("([A-Z_]+)"',
        "config/runner/settings.py": r'\bis_set\("([A-Z_]+)"',
        "Procfile": r"\$\{([A-Z_]+)",
    }
    in_code = {
        variable for path, look in read.items() for variable in re.findall(look, (ROOT / path).read_text())
    }
    documented = re.findall(r"^\| `([A-Z_]+)` \|", OPERATING.read_text(), re.MULTILINE)

    assert sorted(documented) == sorted(in_code)


def test_every_process_of_the_procfile_is_documented():
    processes = re.findall(r"^([a-z]+):", (ROOT / "Procfile").read_text(), re.MULTILINE)
    documented = re.findall(r"^\| ([a-z]+) \|.*\|.*\|$", OPERATING.read_text(), re.MULTILINE)

    assert set(processes) <= set(documented)


def test_the_decisions_are_numbered_without_a_gap():
    numbers = [path.name[:4] for path in sorted((ROOT / "docs" / "decisions").glob("*.md"))]

    assert numbers == [f"{number:04}" for number in range(1, len(numbers) + 1)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_management_commands_that_are_named_exist(document):
    commands = set(re.findall(r"python manage\.py (\w+)", document.read_text())) - {"createsuperuser"}

    assert [c for c in sorted(commands) if not list(ROOT.glob(f"*/management/commands/{c}.py"))] == []
