"""The tree of errors: the kind of each, and the advice in its message."""

from __future__ import annotations

import shlex
import sys
import time

import pytest

from fixgw import errors
from fixgw.errors import (
    Advice,
    BadModule,
    BadValue,
    ConfigurationError,
    DeviceError,
    FixgwError,
    MissingLibrary,
    NetfixError,
    NotConnected,
    PluginFail,
    Problem,
    Refused,
    RequestTimeout,
    UnknownKey,
    counted,
    did_you_mean,
    nearest,
    printable,
)


@pytest.mark.parametrize(
    ("leaf", "builtin"),
    [
        (UnknownKey, KeyError),
        (BadValue, ValueError),
        (ConfigurationError, ValueError),
        (MissingLibrary, ImportError),
        (DeviceError, OSError),
        (PluginFail, RuntimeError),
        (NotConnected, ConnectionError),
        (RequestTimeout, TimeoutError),
        (Refused, ValueError),
    ],
)
def test_every_leaf_is_also_the_matching_builtin(leaf: type[BaseException], builtin: type[BaseException]) -> None:
    assert issubclass(leaf, FixgwError)
    assert issubclass(leaf, builtin)
    assert leaf.__doc__


def test_the_docstring_draws_the_whole_tree() -> None:
    leaves = [
        c.__name__
        for c in vars(errors).values()
        if isinstance(c, type) and issubclass(c, FixgwError) and c is not FixgwError
    ]
    assert errors.__doc__
    assert [name for name in leaves if name not in errors.__doc__] == []


@pytest.mark.parametrize("error", [NotConnected("away"), RequestTimeout("late")])
def test_network_errors_have_a_common_root(error: Exception) -> None:
    assert isinstance(error, NetfixError)
    assert isinstance(error, OSError)


def test_an_unknown_key_reads_like_a_sentence() -> None:
    error = UnknownKey("IASS", ["ALT", "IAS"])
    assert str(error) == "no item 'IASS' (did you mean 'IAS'?)"
    assert error.key == "IASS"
    assert error.args == ("IASS",), "as of any KeyError"
    assert str(UnknownKey("IAS")) == "no item 'IAS'"


def test_an_unknown_key_can_be_printed_twice_from_a_generator() -> None:
    error = UnknownKey("ALTT", (k for k in ("ALT", "IAS")))
    assert str(error) == str(error) == "no item 'ALTT' (did you mean 'ALT'?)"


def test_the_nearest_name_is_looked_up_only_when_the_message_is_printed() -> None:
    known = [f"KEY{n}" for n in range(600)]

    def cost(error: UnknownKey) -> float:
        begun = time.perf_counter()
        str(error)
        return time.perf_counter() - begun

    assert cost(UnknownKey("KEY" * 20_000, known)) < 0.1, "a client's line of garbage is not compared"
    begun = time.perf_counter()
    for _ in range(1000):
        UnknownKey("KEX5", known)
    assert time.perf_counter() - begun < cost(UnknownKey("KEX5", known)) * 1000


def test_a_device_error_prints_as_the_system_error_it_is() -> None:
    assert str(DeviceError("no answer")) == "no answer"
    assert str(DeviceError(2, "No such file", "/dev/ttyUSB0")) == "[Errno 2] No such file: '/dev/ttyUSB0'"
    assert DeviceError(2, "No such file").errno == 2


def test_a_bad_value_names_its_item() -> None:
    error = BadValue("IAS", "'fast' is not a number")
    assert (str(error), error.key, error.reason) == ("IAS: 'fast' is not a number", "IAS", "type")


def test_a_problem_gives_its_position() -> None:
    assert str(Problem("a.yaml", 3, 7, "unknown option")) == "a.yaml:3:7: unknown option"
    assert str(Problem("a.yaml", 0, 0, "no such file")) == "a.yaml: no such file"


def test_what_a_file_contains_makes_a_problem_neither_long_nor_dangerous() -> None:
    assert str(Problem("a", 1, 1, "x" * 1000)) == "a:1:1: " + "x" * 1000
    assert str(Problem("a", 1, 1, "x" * 1001)) == "a:1:1: " + "x" * 997 + "..."
    assert str(Problem("a\n", 0, 0, "\x1b[31mred")) == r"a\n: \x1b[31mred"
    advice = Advice("a", 1, 2, "it means something else", "5")
    assert str(advice) == "a:1:2: advice: it means something else"
    assert ConfigurationError([], [advice]).advice == [advice]


def test_a_configuration_error_lists_all_its_problems() -> None:
    problems = [Problem("a.yaml", 1, 1, "x"), Problem("b.yaml", 2, 2, "y")]
    error = ConfigurationError(problems)
    assert str(error) == "a.yaml:1:1: x\nb.yaml:2:2: y"
    assert error.problems == problems


def test_a_missing_library_names_the_command_that_installs_it_here() -> None:
    error = MissingLibrary("RPi.GPIO", "rpi")
    assert error.fix.startswith(shlex.quote(sys.executable))
    assert str(error) == f"RPi.GPIO is not installed: {error.fix}"
    assert (error.library, error.extra) == ("RPi.GPIO", "rpi")
    assert MissingLibrary("somebody_elses").extra == MissingLibrary("somebody_elses").fix == ""
    assert str(MissingLibrary("somebody_elses")) == "somebody_elses is not installed"


def test_a_refusal_gives_the_reason_and_keeps_the_code() -> None:
    error = Refused("@wIAS;fast", "003")
    assert (str(error), error.code, error.request) == ("@wIAS;fast: bad or missing value", "003", "@wIAS;fast")
    assert str(Refused("@z", "999")) == "@z: error 999"
    assert str(Refused("@w", "005", "ask the owner")) == "@w: not permitted: ask the owner"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("ias", "IAS"), ("EGT1", "EGT11"), ("zzz", ""), ("", ""), ("x" * 101, "")],
)
def test_the_nearest_name_is_suggested(name: str, expected: str) -> None:
    assert did_you_mean(name, ["IAS", "EGT11", "ALT"]) == (f" (did you mean {expected!r}?)" if expected else "")
    assert did_you_mean(name, []) == ""
    assert nearest("x" * 100, ["X" * 100]) == "X" * 100
    assert nearest("x" * 101, ["X" * 101]) == "", "no longer name is compared"


def test_a_plugin_can_raise_the_class_without_arguments() -> None:
    with pytest.raises(PluginFail):
        raise PluginFail


def test_a_bad_module_says_which_and_whether_there_is_none() -> None:
    error = BadModule("fixgw.plugins.x", "it has no plugin")
    assert (str(error), error.module, error.reason) == ("it has no plugin", "fixgw.plugins.x", "it has no plugin")
    assert error.absent is False
    assert BadModule("x", "no such module", True).absent is True


@pytest.mark.parametrize(
    ("code", "meaning"),
    [("001", "unknown key"), ("002", "no such flag, or wrong subscription"), ("004", "unknown command")],
)
def test_each_code_has_its_meaning(code: str, meaning: str) -> None:
    assert str(Refused("@x", code)) == f"@x: {meaning}"


def test_things_are_counted_in_words() -> None:
    assert [counted(n, "problem") for n in (0, 1, 2)] == ["0 problems", "1 problem", "2 problems"]


def test_of_names_that_differ_in_case_the_first_is_suggested() -> None:
    assert nearest("ias", ["ias", "IAS"]) == nearest("ias", ["IAS", "ias"]) == "IAS"
    assert nearest("55", (n for n in (551, "x"))) == "551"  # type: ignore[misc]


def test_only_what_is_not_printable_is_replaced() -> None:
    assert printable("ä \x1b[0m\u202e\n") == r"ä \x1b[0m\u202e\n"
