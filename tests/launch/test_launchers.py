"""The launchers' own part: scripts, commands, environments, and what they say of a job that fails."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
POD = ROOT / "launch" / "tpu_pod.sh"


def load(path: str) -> ModuleType:
    """A launcher, which is a script and no part of the package."""
    spec = importlib.util.spec_from_file_location(path.replace("/", "_").removesuffix(".py"), ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def slurm() -> ModuleType:
    pytest.importorskip("submitit", reason="submitit, of the extra slurm, is not installed")
    return load("launch/slurm.py")


@pytest.fixture(scope="module")
def xm() -> ModuleType:
    pytest.importorskip("xmanager", reason="xmanager, of the extra xm, is not installed")
    return load("xm/launch.py")


# Processes of this machine.


def test_cores_are_shared_out_and_a_choice_is_kept(monkeypatch: pytest.MonkeyPatch):
    environment = load("launch/local.py").environment
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(9)), raising=False)
    shared = environment({"HOME": "/home"}, 1, 4, gpus=False)
    assert shared == {"HOME": "/home", "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    assert environment({"JAX_NUM_CPU_DEVICES": "5"}, 0, 4, gpus=False)["JAX_NUM_CPU_DEVICES"] == "5"
    assert environment({}, 0, 16, gpus=False)["JAX_NUM_CPU_DEVICES"] == "1"


def test_every_process_has_one_gpu():
    environment = load("launch/local.py").environment
    assert environment({}, 3, 4, gpus=True) == {"CUDA_VISIBLE_DEVICES": "3"}
    assert environment({"CUDA_VISIBLE_DEVICES": "4,6"}, 1, 2, gpus=True) == {"CUDA_VISIBLE_DEVICES": "6"}
    with pytest.raises(SystemExit, match="names 2 GPU"):
        environment({"CUDA_VISIBLE_DEVICES": "4,6"}, 0, 3, gpus=True)


# Slurm.


def test_the_script_of_a_run_on_many_nodes(slurm: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    run = tmp_path / "run"
    asked = ("--nodes", "2", "--gpus_per_node", "4", "--minutes", "30", "--sbatch", "partition=gpu")
    words = ("recipes/quickstart.gin", "STEPS=3", "--run_dir", str(run))
    assert slurm.main(["train", *words, *asked, "--setup", "module load cuda", "--print"]) == 0
    script = capfd.readouterr().out
    for line in ("nodes=2", "ntasks-per-node=4", "gpus-per-node=4", "time=30", "partition=gpu", "signal=TERM@120"):
        assert f"#SBATCH --{line}\n" in script
    assert f"#SBATCH --output={run}/slurm/%j_0_log.out\n" in script
    assert "\nmodule load cuda\n" in script
    assert "--kill-on-bad-exit=1 --wait=0" in script
    assert "--array" not in script
    assert (
        f"# task 0: {sys.executable} -m vsml train recipes/quickstart.gin STEPS=3 --run_dir {run} --distributed\n"
        in (script)
    )
    assert not run.exists()
    bash = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
    assert (bash.returncode, bash.stderr) == (0, "")


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "seeds.gin"
    path.write_text('include "recipes/quickstart.gin"\naxes.SEED = [0, 1]\naxes.STEPS = [2, 3]\n')
    return path


def test_a_sweep_is_an_array(slurm: ModuleType, sweep_file: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    directory = tmp_path / "sweep"
    command = ["sweep", str(sweep_file), "LENGTH=5", "--sweep_dir", str(directory), "--parallel", "3", "--print"]
    assert slurm.main(command) == 0
    script = capfd.readouterr().out
    assert "#SBATCH --array=0-3%3\n" in script
    tasks = re.findall(r"^# task (\d): .*-m (vsml .*)$", script, re.MULTILINE)
    start = f"vsml sweep {sweep_file} LENGTH=5 --sweep_dir {directory} --index"
    assert tasks == [(str(index), f"{start} {index}") for index in range(4)]
    assert not directory.exists()


def test_submitit_runs_a_command_here_and_says_what_failed(
    slurm: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
):
    commands = [[sys.executable, "-c", f"open({str(tmp_path / name)!r}, 'w')"] for name in ("a", "b")]
    commands.append([sys.executable, "-c", "raise SystemExit(5)"])
    assert slurm._submit(commands, tmp_path / "run", slurm.Options(cluster="local", minutes=1, parallel=2)) == 1
    captured = capfd.readouterr()
    assert captured.out == f"2 of 3 done; logs in {tmp_path}/run/slurm\n"
    assert captured.err.startswith("launch: job ")
    assert (tmp_path / "a").exists()
    assert (tmp_path / "b").exists()


def test_a_parameter_of_sbatch_without_a_value(slurm: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    sbatch = ("--sbatch", "exclusive", "--sbatch", "comment=a=b", "--sbatch=requeue")
    assert slurm.main(["train", "quickstart", "--run_dir", str(tmp_path / "run"), *sbatch, "--print"]) == 0
    script = capfd.readouterr().out
    for line in ("exclusive", "comment=a=b", "requeue"):
        assert f"#SBATCH --{line}\n" in script


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --devices 2 quickstart", "--devices: flags of `vsml train` follow the recipe: put it first"),
        ("sweep --jobs 2 sharing", "--jobs: flags of `vsml sweep` follow the sweep file: put it first"),
        ("sweep", "sweep needs a sweep file"),
        ("train quickstart --nodes 0", "--nodes 0: ask for 1 or more"),
        ("train quickstart --tasks_per_node 0", "--tasks_per_node 0: ask for 1 or more"),
        ("train quickstart --gpus_per_node -1", "--gpus_per_node -1: ask for 0 or more"),
        ("train quickstart --cpus_per_task 0", "--cpus_per_task 0: ask for 1 or more"),
        ("train quickstart --minutes 0", "--minutes 0: ask for 1 or more"),
        ("sweep sharing --parallel 0 --cluster local", "--parallel 0: ask for 1 or more"),
        ("train quickstart --sbatch =gpu", "--sbatch: give KEY=VALUE, or a KEY that takes no value"),
    ],
)
def test_what_cannot_be_submitted_is_refused(
    slurm: ModuleType, arguments: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        slurm.main([*arguments.split(), "--print"])
    assert ended.value.code == 2
    assert capfd.readouterr().err.rstrip().endswith(f"error: {message}")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_a_sweep_is_one_line(slurm: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert slurm.main(["sweep", "sharng", "--print"]) == 2
    assert capfd.readouterr().err == "launch: command line: there is no sweep sharng; did you mean sharing?\n"


# XManager.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("train --devices 2 quickstart", "--devices: flags of `vsml train` follow the recipe: put it first"),
        ("sweep sharing --parallel 0", "--parallel 0: ask for 1 or more"),
        ("train quickstart --resource v100", "--resource v100: give NAME=N, such as v100=1"),
    ],
)
def test_what_xmanager_cannot_run_is_refused(
    xm: ModuleType, arguments: str, message: str, capfd: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit) as ended:
        xm.main(arguments.split())
    assert ended.value.code == 2
    assert capfd.readouterr().err.rstrip().endswith(f"error: {message}")


def test_xmanager_runs_binaries_here_and_none_stops_the_others(xm: ModuleType, tmp_path: Path):
    """In a process of its own: XManager keeps flags and a database for the life of one."""
    program = (
        "import sys; sys.path.insert(0, 'xm'); import launch; "
        "sys.exit(launch._experiment('t', [['--version'], ['nonsense'], ['--version']], launch.Options()))"
    )
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert done.stdout.count("[vsml] 0.1.0") == 2
    assert "launch: failed: vsml nonsense" in done.stderr


# TPU pods.


def pod(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(POD), *arguments], capture_output=True, text=True)


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
class TestPod:
    def test_the_command_of_all_workers(self):
        shown = pod("--tpu", "pod", "--zone", "z", "--dry_run", "--", "recipes/quickstart.gin", "A=[1, 2]")
        assert shown.returncode == 0, shown.stderr
        assert shown.stdout.startswith("gcloud compute tpus tpu-vm ssh pod --zone=z --worker=all --command=")
        # The words of the shell on a worker, as it would read them.
        words = subprocess.run(
            ["bash", "-c", f"gcloud() {{ printf '%s\\n' \"${{@: -1}}\"; }}; {shown.stdout}"],
            capture_output=True,
            text=True,
        ).stdout.strip()
        assert words.startswith("--command=cd vsml && .venv/bin/python -m vsml train recipes/quickstart.gin ")
        remote = words.partition(" train ")[2]
        read = subprocess.run(["bash", "-c", f"printf '%s\\n' {remote}"], capture_output=True, text=True).stdout
        assert read.splitlines() == ["recipes/quickstart.gin", "A=[1, 2]", "--distributed"]

    def test_help_and_mistakes(self):
        assert pod("--help").stdout.startswith("One run on all workers of a TPU pod.")
        for arguments, message in (
            (("--", "recipe"), "--tpu NAME is missing"),
            (("--tpu", "pod"), "no recipe"),
            (("--tpu", "pod", "--zonne", "z"), "unknown argument --zonne"),
            (("--tpu",), "--tpu needs a value"),
        ):
            refused = pod(*arguments)
            assert refused.returncode == 2
            assert refused.stderr.startswith(f"tpu_pod.sh: {message}")
            assert refused.stderr.count("\n") == 1
