"""What many tests share: nnU-Net's folders in a temporary place."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No test depends on how fast a machine is, or on what else it does. Continuous integration draws the same examples
# every time, so that no change fails by another's bad luck; elsewhere they are new ones with every run.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize="CI" in os.environ
)
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Let tests interrupt what they start: in a shell's background job SIGINT is ignored, and children inherit that."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# Files whose slow tests share what one of them prepares for minutes: one process runs them all.
SHARING = ("test_gpu_script", "test_page_in_browser", "test_stock_commands")


@pytest.hookimpl(tryfirst=True)  # xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Fast tests first: what is wrong shows early. Then what one process does alone: the rest fills the other one."""
    items.sort(key=lambda item: ("slow" in item.keywords, item.path.stem not in SHARING))
    for item in items:
        if "slow" in item.keywords and item.path.stem in SHARING:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))


class NNUNetFolders:
    """nnU-Net's three folders, and a way to run commands with them as a user would."""

    def __init__(self, root: Path) -> None:
        self.raw, self.preprocessed, self.results = (root / name for name in ("raw", "preprocessed", "results"))
        for folder in (self.raw, self.preprocessed, self.results):
            folder.mkdir()
        self.environment = {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
            "nnUNet_def_n_proc": "1",
            "nnUNet_n_proc_DA": "1",
            "OMP_NUM_THREADS": "1",  # tests run side by side, and these networks are tiny
        }

    def popen(self, command: str, *arguments: str, **environment: str) -> subprocess.Popen:
        """Start a command of the environment's bin folder in a fresh process."""
        return subprocess.Popen(
            [Path(sys.executable).parent / command, *map(str, arguments)],
            env={**os.environ, **self.environment, **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: str, *arguments: str, code: int = 0, **environment: str) -> str:
        """Run a command to its end, check its exit code and return what it printed."""
        process = self.popen(command, *arguments, **environment)
        output, _ = process.communicate()
        assert process.returncode == code, output
        return output


@pytest.fixture
def nnunet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NNUNetFolders:
    """Empty nnU-Net folders, for this process too."""
    folders = NNUNetFolders(tmp_path)
    for name, value in folders.environment.items():
        monkeypatch.setenv(name, value)
    return folders


@pytest.fixture(scope="module")
def shared_nnunet(tmp_path_factory: pytest.TempPathFactory) -> NNUNetFolders:
    """nnU-Net folders that the tests of a module share; commands only, this process is not touched."""
    return NNUNetFolders(tmp_path_factory.mktemp("nnunet"))
