"""Settings from the environment: defaults, every wrong value named at once, no secret repeated."""

from pathlib import Path

import pytest

from pulse.settings import Settings, SettingsError, unknown_variables

URL = "postgresql://pulse:s3cret@db.example:5432/pulse"
WHOLE = ["abc", "-1", "1.0", "1e2", "0x10", "1_000", "true", "\u0661\u0660", "9" * 5000]
WRONG = [
    *[("PULSE_PORT", value) for value in [*WHOLE, "0", "65536"]],
    *[("PULSE_BATCH_SIZE", value) for value in [*WHOLE, "0"]],
    *[("PULSE_POOL_SIZE", value) for value in [*WHOLE, "1"]],
    *[("PULSE_POLL_INTERVAL_SECONDS", v) for v in ["-1", "0", "nan", "inf", "abc", "1e400", "5s"]],
    *[("PULSE_TIMEOUT_SECONDS", value) for value in ["-1", "0", "nan", "abc"]],
    *[("PULSE_MAX_SPLIT_DELAY_SECONDS", value) for value in ["-1", "nan", "abc"]],
    *[("PULSE_MAX_CLOCK_OFFSET_SECONDS", value) for value in ["-1", "0", "nan", "abc"]],
    *[("PULSE_MAX_REQUESTS_IN_FLIGHT", value) for value in [*WHOLE, "0"]],
    *[("PULSE_BODY_TIMEOUT_SECONDS", value) for value in ["-1", "0", "nan", "abc"]],
    *[("PULSE_RATE_LIMIT_PER_SECOND", value) for value in ["-1", "0.001", "inf", "nan", "abc"]],
    *[("PULSE_INTERNAL_RATE_LIMIT_PER_SECOND", value) for value in ["-1", "nan", "abc"]],
    *[("PULSE_RATE_LIMIT_BURST_SECONDS", value) for value in ["-1", "nan", "abc"]],
    *[("PULSE_MIGRATE", value) for value in ["maybe", "2", "on fire"]],
    *[("PULSE_LOG_LEVEL", value) for value in ["loud", "0"]],
    *[("PULSE_LOG_FORMAT", value) for value in ["xml"]],
]
WRONG_URLS = [
    "db.example/pulse",
    "mysql://pulse:s3cret@db.example/pulse",
    "http://pulse:s3cret@db.example/pulse",
    "postgresql://pulse:s3cret%zz@db.example/pulse",
    "postgresql://pulse:s3cret@db.example/pulse?s3cret=1",
    "host=db.example password=s3cret",
    "s3cret",
]


def faults_of(**environment: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as refused:
        Settings.from_environment(environment)
    assert all(fault in str(refused.value) for fault in refused.value.faults)
    return refused.value.faults


def test_the_defaults_are_the_documented_ones() -> None:
    settings = Settings.from_environment({})
    assert settings == Settings()
    assert settings.database_url is None
    assert settings.data_dir == Path(".pulse")
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert settings.migrate is True
    assert settings.poll_interval_seconds == 5
    assert settings.batch_size == 10
    assert settings.timeout_seconds == 300
    assert settings.timeout_check_interval_seconds == 60
    assert settings.max_split_delay_seconds == 300
    assert settings.max_clock_offset_seconds == 1


def test_every_variable_is_read() -> None:
    settings = Settings.from_environment(
        {
            "PULSE_DATABASE_URL": URL,
            "PULSE_DATA_DIR": "/var/lib/pulse",
            "PULSE_HOST": "::1",
            "PULSE_PORT": "65535",
            "PULSE_MIGRATE": "FALSE",
            "PULSE_POLL_INTERVAL_SECONDS": "0.25",
            "PULSE_BATCH_SIZE": " 100 ",
            "PULSE_TIMEOUT_SECONDS": "60",
            "PULSE_TIMEOUT_CHECK_INTERVAL_SECONDS": "5",
            "PULSE_MAX_SPLIT_DELAY_SECONDS": "0",
            "PULSE_MAX_CLOCK_OFFSET_SECONDS": "2.5",
            "PULSE_MAX_REQUESTS_IN_FLIGHT": "200",
            "PULSE_BODY_TIMEOUT_SECONDS": "2.5",
            "PULSE_RATE_LIMIT_PER_SECOND": "0",
            "PULSE_INTERNAL_RATE_LIMIT_PER_SECOND": "0.5",
            "PULSE_RATE_LIMIT_BURST_SECONDS": "60",
            "PULSE_LOG_LEVEL": "Debug",
        }
    )
    assert settings == Settings(
        database_url=URL,
        data_dir=Path("/var/lib/pulse"),
        host="::1",
        port=65_535,
        migrate=False,
        poll_interval_seconds=0.25,
        batch_size=100,
        timeout_seconds=60,
        timeout_check_interval_seconds=5,
        max_split_delay_seconds=0,
        max_clock_offset_seconds=2.5,
        max_requests_in_flight=200,
        body_timeout_seconds=2.5,
        rate_limit_per_second=0,
        internal_rate_limit_per_second=0.5,
        rate_limit_burst_seconds=60,
        log_level="debug",
    )


def test_an_empty_value_counts_as_unset_and_a_name_without_the_prefix_is_not_read() -> None:
    environment = {"PULSE_PORT": "", "PULSE_DATABASE_URL": "  ", "PORT": "abc"}
    assert Settings.from_environment(environment) == Settings()


@pytest.mark.parametrize(("variable", "value"), WRONG, ids=lambda text: text[:30])
def test_a_wrong_value_is_named_with_what_is_right(variable: str, value: str) -> None:
    (fault,) = faults_of(**{variable: value})
    assert variable in fault
    assert value in fault
    assert ": expected " in fault
    assert "string conversion" not in fault  # Python's own message about very long numbers


def test_all_wrong_values_are_named_in_one_message() -> None:
    wrong = {"PULSE_PORT": "abc", "PULSE_BATCH_SIZE": "0", "PULSE_POLL_INTERVAL_SECONDS": "-1"}
    faults = faults_of(**wrong, PULSE_HOST="0.0.0.0")  # noqa: S104 - nothing listens here
    assert len(faults) == 3
    for variable, value in wrong.items():
        assert any(variable in fault and value in fault for fault in faults)


@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_wrong_url_is_refused_without_repeating_its_password(url: str) -> None:
    with pytest.raises(SettingsError, match="PULSE_DATABASE_URL") as refused:
        Settings.from_environment({"PULSE_DATABASE_URL": url})
    assert "s3cret" not in str(refused.value)
    cause: BaseException | None = refused.value
    while cause is not None:
        assert "s3cret" not in str(cause)
        cause = cause.__cause__


@pytest.mark.parametrize("url", [URL, "postgres://db.example/pulse", "postgresql:///pulse"])
def test_urls_of_postgres_are_taken_as_they_are(url: str) -> None:
    assert Settings.from_environment({"PULSE_DATABASE_URL": url}).database_url == url


def test_a_tilde_is_the_home_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = Settings.from_environment({"PULSE_DATA_DIR": "~/pulse"})
    assert settings.data_dir == tmp_path / "pulse"
    (fault,) = faults_of(PULSE_DATA_DIR="~no-such-user/pulse")
    assert "PULSE_DATA_DIR" in fault
    assert "existing home directory" in fault


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("PULSE_BATCHSIZE", "PULSE_BATCH_SIZE"),
        ("PULSE_BATCH_SIZES", "PULSE_BATCH_SIZE"),
        ("pulse_batch_size", "PULSE_BATCH_SIZE"),
        ("PULSE-BATCH-SIZE", "PULSE_BATCH_SIZE"),
        ("PULSE_DATABASE_URI", "PULSE_DATABASE_URL"),
        ("PULSE_SERVICE_TOKEN_", "PULSE_SERVICE_TOKENS"),
        ("PULSE_LOGLEVEL", "PULSE_LOG_LEVEL"),
        ("PULSE_WHATEVER_ELSE", None),
    ],
)
def test_a_misspelt_variable_is_named_with_the_closest_known_one(
    misspelt: str, meant: str | None
) -> None:
    assert unknown_variables({misspelt: "s3cret", "PULSE_PORT": "1"}) == {misspelt: meant}


@pytest.mark.parametrize(
    "variable",
    [
        *[f"PULSE_{name.upper()}" for name in Settings.__struct_fields__],
        "PULSE_URL",
        "PULSE_SERVICE_TOKEN",
        "PULSE_TEST_DATABASE_URL",
        "PULSE_SERVER",  # of PulseAudio; WSL sets it
        "PULSE_PORT_8000_TCP_ADDR",  # set by Kubernetes for a service called pulse
        "PULSE_SERVICE_HOST",
        "IMPULSE_SIZE",
        "PULSES",
    ],
)
def test_known_variables_and_those_of_others_are_not_named(variable: str) -> None:
    assert unknown_variables({variable: "x"}) == {}
