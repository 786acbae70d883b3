"""Commands that write, run in processes of their own on small inputs."""

import pytest
from tests.cli.fork_server import Commands
from tests.cli.writing_commands import Example, write_inputs


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    """Server that starts commands; their TMPDIR is ``commands.tmp``."""
    with Commands(tmp_path_factory.mktemp("commands") / "output") as started:
        yield started


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, funnel):
    """Folder with the inputs of all commands that write."""
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder, funnel)
    return folder


@pytest.fixture(scope="module")
def example(request, commands, inputs, tmp_path_factory):
    """Command that writes, by its name, and what it writes if nothing interrupts it."""
    return Example(request.param, inputs, commands, tmp_path_factory.mktemp(request.param))
