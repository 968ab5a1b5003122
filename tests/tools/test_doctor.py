"""The list of settings against the code that reads them, and what `make doctor` reports."""

from __future__ import annotations

import re
import sys

from tools import doctor
from tools.imports import ROOT
from tools.settings import SETTINGS

READS = re.compile(
    r"(?:environ(?:\.get)?[\[(]|getenv\(|\bsecret\(|_from_environment\()\s*\"([A-Z_]+)\""
    r"|\"([A-Z_]+)\" (?:not )?in os\.environ"
)


def test_docs_settings_lists_exactly_the_variables_that_the_code_reads():
    read = set()
    for folder in ("labstore", *(p.name for p in ROOT.glob("lab[0-9]*")), "tools", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= {a or b for a, b in READS.findall(path.read_text(encoding="utf-8"))}
    read |= set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.M))
    test_only = {"REHEARSED_DRIVE", "LIMIT_MIB", "LIMIT_SECONDS"}
    assert read - test_only - set(SETTINGS) <= {
        "PYDEVD_DISABLE_FILE_VALIDATION",
        "ORT_DISABLE_TELEMETRY",  # set by us, for the library
    }
    read_by_libraries = {"GRADIO_SERVER_NAME"}
    files = [*ROOT.glob("lab*/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("tests/**/*.py")]
    files += [*ROOT.glob("labstore/*.py"), ROOT / "Makefile", ROOT / ".github/workflows/daily.yml"]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for name in set(SETTINGS) - read_by_libraries:
        assert re.search(rf"\b{name}\b", text), f"{name} is read nowhere"


def test_the_deployments_that_settings_name_exist():
    assert len(SETTINGS) > 10
    for setting in SETTINGS.values():
        assert setting.meaning and setting.read_by
        assert set(setting.needed_for) <= set(doctor.DEPLOYMENTS)


def test_doctor_reports_what_each_deployment_lacks(trained_iris, monkeypatch, capsys):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABS_STORE", str(trained_iris))
    monkeypatch.setenv("HF_TOKEN", "not-a-token")
    monkeypatch.setitem(doctor.DEPLOYMENTS, "modal", list)
    doctor.main()
    parts = dict(re.findall(r"^(\S[\w ]*?) {2,}(.*(?:\n +- .*)*)", capsys.readouterr().out, re.M))
    assert set(parts) >= set(doctor.DEPLOYMENTS)
    assert "HF_TOKEN" not in parts["spaces"] and "Space wine shows" in parts["spaces"]
    assert "Space iris shows" not in parts["spaces"]
    assert "wine_quality in" in parts["crontab"] and "iris_species" not in parts["crontab"]
    assert "wine_generator in" in parts["crontab"]
    assert "SNAPSHOT_REPO" in parts["modal"] and parts["modal"].startswith("ready")
    assert "MDC_API_KEY" in parts["data collective"]


def test_doctor_accepts_any_browser_and_says_how_to_install_what_is_missing(monkeypatch):
    programs = {"google-chrome": "chromium", "espeak-ng": "espeak-ng", "strace": "strace"}
    for absent, word in programs.items():
        present = dict.fromkeys(programs.keys() - {absent}, "/bin/it")
        monkeypatch.setattr(doctor.shutil, "which", present.get)
        [line] = doctor.missing("tests")
        assert word in line
    assert not [line for line in doctor.missing("hopsworks") if "package" in line]
    monkeypatch.setitem(sys.modules, "hopsworks", None)
    [line] = [line for line in doctor.missing("hopsworks") if "package" in line]
    assert "'hopsworks[python]'" in line


def test_doctor_reports_what_another_store_or_model_lacks(monkeypatch, tmp_path, capsys):
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABS_STORE", "hopsworks:labs")
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path))
    monkeypatch.setitem(doctor.DEPLOYMENTS, "modal", list)
    doctor.main()
    printed = capsys.readouterr().out
    assert "Hopsworks cannot be reached without HOPSWORKS_API_KEY" in printed
    assert f"for the Space whisper: WHISPER_MODEL is the folder {tmp_path}" in printed
