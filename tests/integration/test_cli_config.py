"""`pulse config`: every setting with its source; `--check` for deploys."""

from pulse.settings import every_setting
from tests.support.cli import run_pulse

SECRET = "secret-of-the-desk-" + "s" * 32


def test_every_setting_has_its_value_and_source() -> None:
    ended = run_pulse("config", batch_size=10, port=8080)
    assert (ended.exit_code, ended.err) == (0, "")
    lines = [line for line in ended.out.splitlines() if not line.startswith(" ")]
    assert [line.partition("=")[0] for line in lines] == [s.variable for s in every_setting()]
    assert "PULSE_PORT=8080  (from the environment, default 8000)" in lines
    assert "PULSE_BATCH_SIZE=10  (from the environment, default 10)" in lines
    assert "PULSE_HOST=127.0.0.1  (default)" in lines


def test_secrets_are_masked() -> None:
    settings = {"service_tokens": f"desk:{SECRET}", "database_url": f"postgresql://u:{SECRET}@h/d"}
    for arguments in (("config",), ("config", "--check")):
        ended = run_pulse(*arguments, **settings)
        assert ended.exit_code == 0
        assert SECRET not in ended.out + ended.err
    shown = run_pulse("config", **settings).out
    assert "PULSE_SERVICE_TOKENS=***  (from the environment, default unset)" in shown
    assert "PULSE_DATABASE_URL=***  (from the environment, default unset)" in shown


def test_a_check_is_one_line_and_an_exit_code() -> None:
    ended = run_pulse("config", "--check", batch_size=20)
    assert ended.exit_code == 0
    assert ended.out == "The settings are valid, 1 of them from the environment.\n"


def test_a_check_fails_for_invalid_and_for_unknown_variables() -> None:
    assert run_pulse("config", "--check", batch_size=0).exit_code == 2
    ended = run_pulse("config", "--check", batchsize=20)
    assert ended.exit_code == 1
    assert "PULSE_BATCHSIZE" in ended.out


def test_check_and_markdown_exclude_each_other() -> None:
    assert run_pulse("config", "--check", "--markdown").exit_code == 2


def test_log_requests_takes_words_and_fractions() -> None:
    for text in ("all", "errors", "off", "0", "0.01", "1", "ALL"):
        assert run_pulse("config", "--check", log_requests=text).exit_code == 0
    for text in ("some", "-1", "1.5", "nan", "10%"):
        ended = run_pulse("config", "--check", log_requests=text)
        assert ended.exit_code == 2
        assert "a fraction from 0 to 1" in ended.err
