"""``--out`` is a file everywhere; as the name of a folder it works for one more release."""

from pathlib import Path

import click
import pytest

from cspbench.cli.main import COMMANDS, cli
from cspbench.cli.options import folder_was_out, results_option
from cspbench.cli.reporter import reporter_options


@click.command()
@results_option
@reporter_options
@folder_was_out("results")
def command(results, reporter):
    click.echo(str(results))


@pytest.fixture
def invoke(capsys):
    """Run the command; return what it printed on standard output and on standard error."""

    def run(*words):
        command.main(words, standalone_mode=False)
        return capsys.readouterr()

    return run


def test_the_new_name_is_taken_without_a_word(invoke):
    assert invoke("--results", "here") == ("here\n", "")


def test_the_old_name_works_and_is_reported_in_one_sentence(invoke):
    output, errors = invoke("--out", "here")
    assert output == "here\n"
    [line] = errors.splitlines()
    assert line == "--out is deprecated and goes with the next release: use --results"


@pytest.mark.parametrize("quiet", [["--quiet"], ["--log-json", "-"]])
def test_the_sentence_goes_where_the_command_reports(invoke, quiet):
    output, errors = invoke("--out", "here", *quiet)
    assert output == "here\n"
    assert not errors.startswith("--out"), "nothing, or an event as JSON"


@pytest.mark.parametrize("name", ["run", "figures"])
def test_the_two_commands_that_had_it_take_the_old_name(name):
    found = cli.get_command(click.Context(cli), name)
    [old] = [option for option in found.params if "--out" in option.opts]
    assert old.hidden


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_means_one_thing(name):
    """``--out`` is a file (a site is a folder), ``--results`` and ``--reports`` are folders."""
    found = cli.get_command(click.Context(cli), name)
    for option in found.params:
        if not isinstance(option.type, click.Path) or getattr(option, "hidden", False):
            continue
        if "--out" in option.opts:
            is_folder = name == "site"
            assert (option.type.file_okay, option.type.dir_okay) == (not is_folder, is_folder)
        if {"--results", "--reports"} & set(option.opts):
            assert (option.type.file_okay, option.type.dir_okay) == (False, True)
            assert option.default in (Path("results"), Path("reports"))
