"""The check of a pack: it accepts what Pulse exports, and names what was changed."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pulse.domain import OrderCreated, SlicesScheduled
from pulse.evidence.chain import (
    DeclaredFork,
    declared_fork,
    fork_lines,
    next_key_line,
    origin_of_fork,
)
from pulse.evidence.merkle import EMPTY_ROOT
from pulse.evidence.note import Checkpoint, SigningKey, split_note
from pulse.evidence.pack.archive import PackInvalid
from pulse.evidence.pack.keys import TrustedKey, keys_until, trusted_keys, unsigned
from pulse.evidence.pack.members import PackKey
from pulse.evidence.pack.writer import PackRefused
from tests.support.cli import run_pulse
from tests.support.events import foreign_event
from tests.support.packs import (
    SealedLog,
    check,
    completed,
    faults,
    members_of,
    pack_of,
    rehashed,
)
from tests.support.seal import KEY, OTHER_KEY

NEW_LOG: Final = UUID("7c9e6679-7425-40de-944b-e07fc1f90ae7")
FORKED_AT: Final = datetime(2026, 11, 27, 9, 45, tzinfo=UTC)
ORDERS: Final = 100
LOG: Final = SealedLog.of_orders(ORDERS)
FIRST, LAST = 252, 271
ANCHORS: Final = (20, 253, 256, 272, 299)
EVENTS: Final = "events/0001.ndjson"
INSIDE: Final = 87
"""An order whose events are all within the period."""


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A pack of a period in the middle of the log."""
    file = tmp_path_factory.mktemp("packs") / "pack.tar"
    return LOG.pack(file, FIRST, LAST, anchors=ANCHORS).read_bytes()


@pytest.fixture(scope="module")
def members(pack: bytes) -> dict[str, bytes]:
    return members_of(pack)


def order_id(number: int) -> Any:
    return completed(number)[0].originator_id


def test_a_pack_is_accepted(pack: bytes) -> None:
    report = check(pack)
    assert faults(report) == []
    assert report.signer_trusted
    assert report.anchors == ANCHORS
    assert report.selection is not None
    assert (report.selection.first_index, report.selection.last_index) == (FIRST, LAST)
    contents = report.contents
    assert contents is not None
    assert contents.events > LAST - FIRST + 1, "earlier events of the same orders"
    assert contents.schedules == contents.statuses["COMPLETED"]


def test_without_a_key_the_signer_is_not_known(pack: bytes) -> None:
    report = check(pack, None)
    assert (report.found, report.signer_trusted, report.signer) == (0, None, str(KEY.verifier))


def test_a_pack_of_another_signer_is_refused(pack: bytes) -> None:
    (finding,) = faults(check(pack, OTHER_KEY.verifier))
    assert finding.fault == "SIGNATURE"
    assert str(OTHER_KEY.verifier) in finding.detail


def test_a_pack_of_one_order_has_no_state_of_another(tmp_path: Path) -> None:
    pack = LOG.pack(tmp_path / "order.tar", order_id=order_id(INSIDE)).read_bytes()
    report = check(pack)
    assert faults(report) == []
    assert report.contents is not None
    assert (report.contents.events, report.contents.streams) == (3, 1)
    for number in range(ORDERS):
        key = f"ouk_{number}\\".encode()
        assert (key in pack) == (number == INSIDE)
        assert (str(order_id(number)).encode() in pack) == (number == INSIDE)


def test_two_exports_of_one_period_have_the_same_content(pack: bytes, tmp_path: Path) -> None:
    """Although the log has grown and other anchors are chosen."""
    grown = SealedLog.of_orders(ORDERS + 200)
    again = grown.pack(tmp_path / "again.tar", FIRST, LAST, anchors=(400,)).read_bytes()
    assert again != pack
    one, other = check(pack), check(again)
    assert (one.found, other.found) == (0, 0)
    assert one.content_hash == other.content_hash
    assert one.content_hash != check(LOG.pack(tmp_path / "x", FIRST, LAST - 1)).content_hash


@given(st.data())
def test_any_changed_byte_of_the_file_is_found(pack: bytes, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(pack) - 1))
    changed = bytearray(pack)
    changed[place] ^= data.draw(st.integers(1, 255))
    assert check(bytes(changed)).found


@settings(max_examples=5)
@given(st.data())
def test_a_changed_byte_of_each_member_is_found_and_the_member_named(
    members: dict[str, bytes], data: st.DataObject
) -> None:
    for name, content in members.items():
        place = data.draw(st.integers(0, len(content) - 1), label=name)
        changed = bytearray(content)
        changed[place] ^= data.draw(st.integers(1, 255))
        report = check(pack_of(members | {name: bytes(changed)}))
        assert report.found
        if name != "manifest.sha256":  # a changed line of it names another member
            assert any(name in finding.detail for finding in faults(report)) or name == "README.txt"


PROVEN: Final = (EVENTS, "schedules/0001.ndjson", "checkpoint", "neighbours.ndjson", "summary.html")


@settings(max_examples=25)
@given(st.data())
def test_a_changed_byte_is_found_although_the_manifests_were_recomputed(
    members: dict[str, bytes], data: st.DataObject
) -> None:
    for name in (*PROVEN, *(member for member in members if member.startswith("tile/"))):
        place = data.draw(st.integers(0, len(members[name]) - 1), label=name)
        changed = bytearray(members[name])
        changed[place] ^= data.draw(st.integers(1, 255))
        assert check(rehashed(members | {name: bytes(changed)})).found, name


def test_a_missing_an_added_and_a_renamed_member_are_named(members: dict[str, bytes]) -> None:
    for name in members:
        left = {member: content for member, content in members.items() if member != name}
        assert any(name in finding.detail for finding in faults(check(pack_of(left)))), name
    renamed = {
        ("events/0002.ndjson" if name == EVENTS else name): content
        for name, content in members.items()
    }
    details = " ".join(finding.detail for finding in faults(check(pack_of(renamed))))
    assert "events/0001.ndjson is missing" in details
    assert "events/0002.ndjson was added" in details
    added = {**members, "tile/0/999": bytes(8192)}
    moved = {"README.txt": added.pop("README.txt"), "tile/0/999": added.pop("tile/0/999"), **added}
    assert "wrong place" in faults(check(pack_of(moved)))[0].detail
    assert faults(check(rehashed(renamed)))[0].detail == "events/0001.ndjson is missing"


def lines_of(members: dict[str, bytes]) -> list[bytes]:
    return members[EVENTS].splitlines(keepends=True)


def found_in(members: dict[str, bytes], lines: list[bytes]) -> list[tuple[str, str]]:
    """The findings in a pack with these events, and manifests that fit them."""
    report = check(rehashed(members | {EVENTS: b"".join(lines)}))
    return [(finding.fault, finding.detail) for finding in faults(report)]


def test_an_event_that_is_left_out_is_found(members: dict[str, bytes]) -> None:
    lines = lines_of(members)
    for place in (0, len(lines) // 2, len(lines) - 1):
        assert found_in(members, lines[:place] + lines[place + 1 :])


def test_an_order_that_is_left_out_is_found_by_the_leaves(members: dict[str, bytes]) -> None:
    wanted = str(order_id(INSIDE)).encode()
    lines = [line for line in lines_of(members) if wanted not in line]
    found = dict(found_in(members, lines))
    assert "lacks 3 of the events" in found["DELETED"]


def test_a_duplicate_event_is_found(members: dict[str, bytes]) -> None:
    lines = lines_of(members)
    own = [line for line in lines if str(order_id(INSIDE)).encode() in line]
    assert found_in(members, lines + own)[0][0] == "MEMBER"
    others = [line for line in lines if line not in own]
    assert found_in(members, [*others, *own, own[-1]])[0][0] == "MEMBER"


def test_an_altered_state_is_found_and_its_event_named(members: dict[str, bytes]) -> None:
    lines = [line.replace(b"BUY", b"BYE") for line in lines_of(members)]
    report = check(rehashed(members | {EVENTS: b"".join(lines)}))
    altered = [finding for finding in faults(report) if finding.fault == "ALTERED"]
    assert altered
    assert all(finding.position and finding.order_id for finding in altered)
    assert {finding.detail for finding in altered} == {"its state is not the one that was sealed"}


def test_an_altered_entry_is_found(members: dict[str, bytes]) -> None:
    lines = lines_of(members)
    lines[5] = lines[5].replace(b'"version":', b'"version":1', 1)
    assert any("not leaf" in detail for _, detail in found_in(members, lines))


def test_a_changed_selection_is_found(members: dict[str, bytes], tmp_path: Path) -> None:
    selection = json.loads(members["selection.json"])
    for changes in (
        {"recorded_from": "2026-03-02T03:49:11Z"},
        {"recorded_before": "2026-03-02T03:49:32.000001Z"},
        {"recorded_from": "2026-03-02T03:49:12.000001Z"},
        {"recorded_before": "2026-03-02T03:49:31Z"},
        {"recorded_from": None, "recorded_before": None},
        {"first_index": FIRST - 1},
        {"first_index": FIRST + 1},
        {"last_index": LAST - 1},
        {"last_index": LAST + 1},
        {"last_index": 10**15},
        {"first_index": -1},
        {"events": 1},
        {"order_id": str(order_id(INSIDE))},
        {"unknown": 1},
    ):
        changed = msgspec.json.encode(selection | changes) + b"\n"
        report = check(rehashed(members | {"selection.json": changed}))
        assert report.found, changes
    whole = members_of(LOG.pack(tmp_path / "all.tar").read_bytes())
    assert whole["neighbours.ndjson"] == b""
    assert check(rehashed(whole | {"neighbours.ndjson": members["neighbours.ndjson"]})).found


def test_a_period_is_not_proven_complete_without_an_entry_after_it(
    pack: bytes, tmp_path: Path
) -> None:
    """A forger can drop its newest events and take an older signed checkpoint."""
    assert check(pack).is_whole
    assert check(LOG.pack(tmp_path / "a.tar", order_id=order_id(INSIDE))).is_whole is None
    last = LAST + 1
    short = LOG.pack(tmp_path / "b.tar", FIRST, LAST, checkpoint=LOG.checkpoint(last))
    report = check(short)
    assert (faults(report), report.is_whole) == ([], False)


def test_only_the_bytes_that_pulse_writes_are_accepted(members: dict[str, bytes]) -> None:
    """Otherwise one content would have several content hashes."""
    lines = lines_of(members)
    streams: dict[str, list[bytes]] = {}
    for line in lines:
        streams.setdefault(json.loads(line)["entry"]["order_id"], []).append(line)
    first, second, *rest = streams.values()
    swapped = [*second, *first, *(line for stream in rest for line in stream)]
    assert "order of their first" in dict(found_in(members, swapped))["MEMBER"]
    halves = {EVENTS: b"".join(lines[:9]), "events/0002.ndjson": b"".join(lines[9:])}
    changed: dict[str, bytes] = {}
    for name, content in members.items():
        changed |= halves if name == EVENTS else {name: content}
    details = [finding.detail for finding in faults(check(rehashed(changed)))]
    assert "events/ is not divided into parts as Pulse divides it" in details
    for name in ("selection.json", "export.json", "keys.json", "anchors.json", "clocks.ndjson"):
        spaced = members[name].replace(b":", b": ", 1)
        if name == "anchors.json":
            spaced = members[name].replace(b",", b", ", 1)
        (finding,) = faults(check(rehashed(members | {name: spaced})))
        assert "not in the form that Pulse writes" in finding.detail
    zoned = members["selection.json"].replace(b"03:49:12Z", b"04:49:12+01:00")
    assert zoned != members["selection.json"]
    assert "not in UTC" in faults(check(rehashed(members | {"selection.json": zoned})))[0].detail
    for name in ("content.sha256", "manifest.sha256"):
        turned = b"".join(reversed(members[name].splitlines(keepends=True)))
        forged = members_of(rehashed(members | {name: turned}))
        found = [f.detail for f in faults(check(pack_of(forged | {name: turned})))]
        assert f"{name} does not list the members in their order" in found


def test_a_time_without_a_zone_is_refused(members: dict[str, bytes]) -> None:
    for name in ("selection.json", "export.json", "clocks.ndjson"):
        naive = members[name].replace(b'Z"', b'"', 1)
        assert naive != members[name]
        (finding,) = faults(check(rehashed(members | {name: naive})))
        assert "timezone" in finding.detail


def test_a_neighbour_with_a_state_is_refused(members: dict[str, bytes]) -> None:
    forged = members["neighbours.ndjson"].replace(b"}}\n", b'},"state":"{}"}\n', 1)
    assert forged != members["neighbours.ndjson"]
    (finding,) = faults(check(rehashed(members | {"neighbours.ndjson": forged})))
    assert "form that Pulse writes" in finding.detail


def test_a_pack_of_an_order_has_its_events_and_their_leaves(tmp_path: Path) -> None:
    members = members_of(LOG.pack(tmp_path / "a.tar", order_id=order_id(INSIDE)).read_bytes())
    selection = json.loads(members["selection.json"])
    for changes, reason in (
        ({"first_index": 0}, "other leaves"),
        ({"last_index": 290}, "other leaves"),
        ({"recorded_from": "2026-01-01T00:00:00Z"}, "either an order or a period"),
    ):
        changed = msgspec.json.encode(selection | changes) + b"\n"
        (finding,) = faults(check(rehashed(members | {"selection.json": changed})))
        assert reason in finding.detail
    empty = selection | {"first_index": 0, "last_index": 0, "events": 0, "streams": 0}
    left = {
        name: content
        for name, content in members.items()
        if not name.startswith(("events/", "schedules/"))
    }
    report = check(rehashed(left | {"selection.json": msgspec.json.encode(empty) + b"\n"}))
    assert "the pack has no event of the order" in faults(report)[0].detail


def test_clock_offsets_have_a_limit(
    pack: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.evidence.pack.check.MAX_CLOCKS_BYTES", 10)
    assert "clocks.ndjson is larger" in faults(check(pack))[0].detail
    monkeypatch.setattr("pulse.evidence.pack.writer.MAX_CLOCKS_BYTES", 10)
    with pytest.raises(PackRefused, match="too many clock offsets"):
        LOG.pack(tmp_path / "a.tar")


def test_neighbours_of_another_tree_or_place_are_found(members: dict[str, bytes]) -> None:
    before, after = members["neighbours.ndjson"].splitlines(keepends=True)
    for lines in ((before,), (after,), (), (after, before), (before, after, after), (b"{}\n",)):
        changed = members | {"neighbours.ndjson": b"".join(lines)}
        assert check(rehashed(changed)).found
    forged = before.replace(b'"version":', b'"version":1')
    assert check(rehashed(members | {"neighbours.ndjson": forged + after})).found


def test_a_forged_derivation_or_summary_is_found(members: dict[str, bytes]) -> None:
    name = "schedules/0001.ndjson"
    forged = members[name].replace(b'"matches":true', b'"matches":false', 1)
    assert [f.detail for f in faults(check(rehashed(members | {name: forged})))] == [
        "schedules/ is not what the events give"
    ]
    forged = members["summary.html"].replace(b"tester", b"forger")
    assert [f.detail for f in faults(check(rehashed(members | {"summary.html": forged})))] == [
        "summary.html is not the summary of what the pack has"
    ]


def test_a_checkpoint_or_anchor_of_another_log_is_found(members: dict[str, bytes]) -> None:
    other = SealedLog.of_orders(ORDERS + 1)
    forged = other.checkpoint(len(LOG.events)).encode()
    assert faults(check(rehashed(members | {"checkpoint": forged})))[0].fault == "TREE"
    unsigned = LOG.checkpoint(key=SigningKey(KEY.verifier.name, bytes(31) + b"\1")).encode()
    assert faults(check(rehashed(members | {"checkpoint": unsigned})))[0].fault == "SIGNATURE"
    assert check(rehashed(members | {"checkpoint": b""})).found
    smaller = LOG.checkpoint(LAST).encode()
    assert faults(check(rehashed(members | {"checkpoint": smaller})))[0].fault == "TREE"
    empty = Checkpoint(KEY.verifier.name, 0, EMPTY_ROOT).signed_by(KEY).encode()
    assert faults(check(rehashed(members | {"checkpoint": empty})))[0].fault == "TREE"
    wrong = Checkpoint(KEY.verifier.name, 256, bytes(32)).signed_by(KEY)
    for notes in ([wrong], [unsigned.decode()], [LOG.checkpoint(100)], ["x"], [1], ["x"] * 1001):
        anchors = msgspec.json.encode(notes)
        found = faults(check(rehashed(members | {"anchors.json": anchors})))
        assert found[0].fault in {"ANCHOR", "MEMBER"} or notes == [LOG.checkpoint(100)]


def test_checkpoints_of_an_auditor_are_compared(pack: bytes) -> None:
    kept = "\n".join(LOG.checkpoint(size) for size in (253, 272, 40)).encode()
    report = check(pack, kept=kept)
    assert (report.found, report.given) == (0, 3)
    assert report.compared >= 2
    wrong = Checkpoint(KEY.verifier.name, 272, bytes(32)).signed_by(KEY).encode()
    (finding,) = faults(check(pack, kept=wrong))
    assert finding.fault == "ANCHOR"
    larger = SealedLog.of_orders(ORDERS + 5).checkpoint().encode()
    report = check(pack, kept=larger)
    assert (report.given, report.compared, report.larger) == (1, 0, (3 * ORDERS + 15,))
    of_another_signer = LOG.checkpoint(key=SigningKey("other.example/log", bytes(32))).encode()
    assert faults(check(pack, kept=of_another_signer))[0].fault == "ANCHOR"


def test_a_chain_of_rotations_is_followed_and_a_forged_one_is_found(tmp_path: Path) -> None:
    keys = rotated(LOG, 280)
    note = LOG.checkpoint(key=OTHER_KEY)
    pack = LOG.pack(tmp_path / "a.tar", 0, 20, anchors=(7, 280), keys=keys, checkpoint=note)
    for key in (KEY, OTHER_KEY):
        assert faults(check(pack, key.verifier)) == []
    forged = [keys[0], PackKey(str(OTHER_KEY.verifier), None)]
    changed = members_of(pack.read_bytes()) | {"keys.json": msgspec.json.encode(forged) + b"\n"}
    assert {finding.fault for finding in faults(check(rehashed(changed)))} == {"SIGNATURE"}


def rotated(log: SealedLog, size: int, root: bytes | None = None) -> list[PackKey]:
    """The keys of a log whose key was replaced when the tree had this size."""
    note = Checkpoint(
        KEY.verifier.name,
        size,
        unsigned(log.checkpoint(size)).root if root is None else root,
        (f"next-key {OTHER_KEY.verifier}",),
    ).signed_by(KEY, OTHER_KEY)
    return [PackKey(str(KEY.verifier), None), PackKey(str(OTHER_KEY.verifier), note)]


def test_a_checkpoint_that_a_replaced_key_signed_is_refused(tmp_path: Path) -> None:
    """A stolen key can sign anything."""
    keys, anchors = rotated(LOG, 280), (7,)
    note = LOG.checkpoint(key=OTHER_KEY)
    pack = LOG.pack(tmp_path / "a.tar", 0, 20, anchors=anchors, keys=keys, checkpoint=note)
    forged = members_of(pack.read_bytes()) | {"checkpoint": LOG.checkpoint().encode()}
    (finding,) = faults(check(rehashed(forged), OTHER_KEY.verifier))
    assert finding.fault == "SIGNATURE"


def test_checkpoints_of_a_replaced_key_count_only_up_to_its_rotation(tmp_path: Path) -> None:
    note = LOG.checkpoint(key=OTHER_KEY)
    pack = LOG.pack(
        tmp_path / "a.tar", 0, 20, anchors=(7,), keys=rotated(LOG, 280), checkpoint=note
    )
    later = LOG.checkpoint(281).encode()
    assert faults(check(pack, OTHER_KEY.verifier, later))[0].fault == "ANCHOR"
    assert faults(check(pack, KEY.verifier, later)) == []
    early = LOG.checkpoint(280).encode()
    assert check(pack, OTHER_KEY.verifier, early).compared == 1
    members = members_of(pack.read_bytes())
    other_tree = msgspec.json.encode(rotated(LOG, 280, root=bytes(32))) + b"\n"
    report = check(rehashed(members | {"keys.json": other_tree}), OTHER_KEY.verifier)
    assert [finding.fault for finding in faults(report)] == ["ANCHOR", "MEMBER"]


def forked(log: SealedLog, size: int) -> tuple[list[PackKey], SigningKey]:
    """The keys of a log that was forked at this size, and the key under its new origin."""
    new = KEY.named(origin_of_fork(KEY.verifier.name, NEW_LOG))
    fork = DeclaredFork(
        840, size, 299, UUID(int=1), NEW_LOG, FORKED_AT, "cli:operator", "a restore"
    )
    lines = (next_key_line(new.verifier), *fork_lines(fork))
    root = unsigned(log.checkpoint(size)).root
    note = Checkpoint(KEY.verifier.name, size, root, lines).signed_by(KEY, new)
    assert declared_fork(note) == fork
    return [PackKey(str(KEY.verifier), None), PackKey(str(new.verifier), note)], new


@pytest.mark.parametrize("is_first_key", [False, True])
def test_checkpoints_of_the_log_before_a_fork_are_counted_apart(
    tmp_path: Path, *, is_first_key: bool
) -> None:
    """An auditor kept some, and has the first key or the one under the origin of the fork."""
    keys, new = forked(LOG, 256)
    note = LOG.checkpoint(key=new)
    pack = LOG.pack(tmp_path / "a.tar", 0, 20, anchors=(), keys=keys, checkpoint=note)
    key = (KEY if is_first_key else new).verifier
    lost = Checkpoint(KEY.verifier.name, 280, bytes(32)).signed_by(KEY)
    undone = KEY.named(origin_of_fork(KEY.verifier.name, UUID(int=5)))
    lines = (next_key_line(undone.verifier),)
    undoing = Checkpoint(KEY.verifier.name, 270, bytes(32), lines).signed_by(KEY, undone)
    after_undone = Checkpoint(undone.verifier.name, 275, bytes(32)).signed_by(undone)
    kept = "\n".join((LOG.checkpoint(256), lost, undoing, after_undone)).encode()
    report = check(pack, key, kept)
    assert faults(report) == []
    assert (report.signer_trusted, report.given) == (True, 4)
    assert (report.compared, report.earlier) == (1, 3)
    wrong = Checkpoint(KEY.verifier.name, 256, bytes(32)).signed_by(KEY).encode()
    assert [finding.fault for finding in faults(check(pack, key, wrong))] == ["ANCHOR"]
    own = Checkpoint(new.verifier.name, 280, bytes(32)).signed_by(new).encode()
    assert check(pack, key, own).earlier == 0


def test_a_fork_is_reported(tmp_path: Path) -> None:
    keys, new = forked(LOG, 256)
    note = LOG.checkpoint(key=new)
    pack = LOG.pack(tmp_path / "a.tar", 0, 20, anchors=(), keys=keys, checkpoint=note)
    (fork,) = check(pack, KEY.verifier).forks
    assert (fork.position, fork.size, fork.known_size, fork.reason) == (840, 256, 299, "a restore")
    assert "\nthe log was forked at position 840 on " in run_pulse("verify", str(pack)).out
    assert check(LOG.pack(tmp_path / "b.tar"), KEY.verifier).forks == ()


def test_the_record_of_a_fork_cannot_be_removed(tmp_path: Path) -> None:
    """The keys before the fork are removed, or replaced by others that do not declare it."""
    keys, new = forked(LOG, 256)
    note = LOG.checkpoint(key=new)
    forger = SigningKey(KEY.verifier.name, bytes(31) + b"\7")
    renamed = forger.named(new.verifier.name)
    lines = (next_key_line(renamed.verifier),)
    undeclared = Checkpoint(forger.verifier.name, 256, bytes(32), lines).signed_by(forger, renamed)
    chains = (
        [PackKey(str(new.verifier), None)],
        [PackKey(str(forger.verifier), None), PackKey(str(renamed.verifier), undeclared)],
        [
            PackKey(str(forger.verifier), None),
            PackKey(str(new.verifier), f"{keys[1].rotation}{signature_of(keys[1], forger)}"),
        ],
    )
    pack = LOG.pack(tmp_path / "a.tar", 0, 20, anchors=(), keys=keys, checkpoint=note)
    members = members_of(pack.read_bytes())
    for chain in chains:
        forged = rehashed(members | {"keys.json": msgspec.json.encode(chain) + b"\n"})
        assert [finding.fault for finding in faults(check(forged, KEY.verifier))] == ["SIGNATURE"]


def signature_of(key: PackKey, signer: SigningKey) -> str:
    """A further signature for the note of this key."""
    return signer.signature_line(split_note(key.rotation or "")[0])


def test_keys_from_before_a_loss_of_events_do_not_count() -> None:
    """Their trees may differ from the one that the log continued with."""
    new = SigningKey("pulse.example/new", bytes(31) + b"\2")
    note = Checkpoint(
        OTHER_KEY.verifier.name,
        290,
        bytes(32),
        (f"next-key {new.verifier}", "loss-accepted-after 840"),
    ).signed_by(OTHER_KEY, new)
    keys = [*rotated(LOG, 280), PackKey(str(new.verifier), note)]
    assert trusted_keys(keys[:2]) == [
        TrustedKey(OTHER_KEY.verifier),
        TrustedKey(KEY.verifier, 280),
    ]
    assert trusted_keys(keys) == [TrustedKey(new.verifier)]
    assert keys_until(LOG.checkpoint(), keys) == keys[:1]


def test_events_that_were_altered_before_they_were_sealed_are_found(tmp_path: Path) -> None:
    """A log that was altered before it was sealed has an intact seal."""
    created, scheduled, *_ = completed(1)
    assert isinstance(created, OrderCreated)
    assert isinstance(scheduled, SlicesScheduled)
    first, second, *rest = scheduled.slices
    swapped = (
        msgspec.structs.replace(first, quantity=first.quantity + 1),
        msgspec.structs.replace(second, quantity=second.quantity - 1),
        *rest,
    )
    log = SealedLog([created, msgspec.structs.replace(scheduled, slices=swapped)])
    pack = log.pack(tmp_path / "a.tar").read_bytes()
    report = check(pack)
    assert [finding.fault for finding in faults(report)] == ["SCHEDULE"]
    assert b'"matches":false' in members_of(pack)["schedules/0001.ndjson"]
    assert b"SCHEDULE" in members_of(pack)["summary.html"]


def test_the_summary_escapes_what_callers_wrote_and_has_no_scripts(tmp_path: Path) -> None:
    created, *_ = completed(1)
    assert isinstance(created, OrderCreated)
    log = SealedLog([msgspec.structs.replace(created, placed_by="<script>alert(1)</script>\u202e")])
    page = members_of(log.pack(tmp_path / "a.tar").read_bytes())["summary.html"]
    assert b"<script" not in page
    assert b"http" not in page
    drawn = members_of(LOG.pack(tmp_path / "b.tar", 0, 299).read_bytes())["summary.html"]
    assert drawn.count(b"<svg") == 50
    assert b"The first 50 of 100." in drawn


@pytest.mark.parametrize("version", ["2", "10", "x", ""])
def test_another_version_is_refused_before_anything_else(pack: bytes, version: str) -> None:
    members = members_of(pack)
    line = b"Pulse evidence pack, version 1"
    changed = members["README.txt"].replace(line, line[:-1] + version.encode())
    other = pack_of({"README.txt": changed, "a-new-member": b""})
    (finding,) = faults(check(other))
    expected = f"has version {version} of the format" if version.isdecimal() else "not a pack"
    assert expected in finding.detail


def test_deeply_nested_json_is_refused(members: dict[str, bytes]) -> None:
    deep = b"[" * 1_000_000
    for name in ("selection.json", "keys.json", "anchors.json", "clocks.ndjson"):
        assert check(rehashed(members | {name: deep + b"\n"})).found
    assert found_in(members, [b'{"index":0,"entry":' + deep + b"\n"])


def test_foreign_events_and_states_that_are_not_text_are_kept(tmp_path: Path) -> None:
    log = SealedLog([*completed(1), foreign_event(state=b"\xff\x00")])
    pack = log.pack(tmp_path / "a.tar").read_bytes()
    assert faults(check(pack)) == []
    assert b'"state_base64":"/wA="' in members_of(pack)[EVENTS]


def test_a_pack_can_be_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pulse.evidence.pack.writer.PART_BYTES", 1)
    monkeypatch.setattr("pulse.evidence.pack.members.PART_BYTES", 1)
    parts = members_of(LOG.pack(tmp_path / "a.tar", 0, 5).read_bytes())
    divided = [name for name in parts if name.startswith(("events/", "schedules/"))]
    assert divided == [
        *(f"events/{number:04}.ndjson" for number in range(1, 5)),  # one for each stream
        *(f"schedules/{number:04}.ndjson" for number in range(1, 3)),
    ]
    assert faults(check((tmp_path / "a.tar").read_bytes())) == []
    monkeypatch.setattr("pulse.evidence.pack.members.MAX_PARTS", 2)
    with pytest.raises(PackInvalid, match="too large for a pack"):
        LOG.pack(tmp_path / "b.tar")


def test_the_form_of_a_pack_is_frozen(tmp_path: Path) -> None:
    """Verification renders the members again: a change needs another version of the format."""
    members = members_of(LOG.pack(tmp_path / "a.tar", FIRST, LAST, anchors=ANCHORS).read_bytes())
    digest = sha256(b"".join(members[name] for name in sorted(members) if name != "checkpoint"))
    assert digest.hexdigest() == "e9a7b9c2a8c20e9b7e70626e2f65c3b2ad3b43fd56e8610d0aa55527001b4ead"
