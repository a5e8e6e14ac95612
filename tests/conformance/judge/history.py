"""The suite's cases that go on over time, by their names: rollback, recovery, rotation, downloads.
What each does to the repository and expects of the client is the suite's, the words are ours.
"""

from table import into
from tuf.api.metadata import MetaFile
from securesystemslib.signer import CryptoSigner

CASES = []
case = into(CASES)

EITHER = {"basic": False, "with hashes": True}


# Rollback.

@case()
def test_simple_snapshot_rollback(world):
    assert world.init()
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    # An old snapshot behind the new one's name: the client has that version and does not ask.
    world.files["metadata/2.snapshot.json"] = world.served("1.snapshot")
    assert world.refresh()
    assert world.versions()[2] == 2
    assert world.requests()[-1] == "timestamp"


@case()
def test_new_timestamp_version_rollback(world):
    assert world.init()
    world.publish("timestamp")
    assert world.refresh()
    world.timestamp.version = 1
    world.put("timestamp", 1)
    assert not world.refresh()
    assert world.versions()[1] == 2


@case()
def test_new_timestamp_snapshot_rollback(world):
    assert world.init()
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    world.timestamp.snapshot_meta = MetaFile(1)
    world.publish("timestamp")
    assert not world.refresh()
    assert world.versions()[1:3] == [2, 2]


@case(EITHER)
def test_snapshot_rollback(world, value):
    world.lists_hashes = value
    assert world.init()
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    world.snapshot.version = 1
    world.put("snapshot", 1)
    world.publish("timestamp")
    assert not world.refresh()
    assert world.versions()[1:3] == [2, 2]
    assert world.requests()[-1] == "timestamp"


@case(EITHER)
def test_targets_rollback(world, value):
    world.lists_hashes = value
    assert world.init()
    world.publish("targets", "targets", "snapshot", "timestamp")
    assert world.refresh()
    world.targets.version = 2
    world.put("targets", 2)
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions()[2:] == [2, 3]


@case()
def test_snapshot_drops_a_role(world):
    assert world.init()
    world.snapshot.meta["other.json"] = MetaFile(1)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    del world.snapshot.meta["other.json"]
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions()[2] == 2


@case()
def test_targets_role_removal(world):
    assert world.init()
    world.delegate("targets", "delegated", ["delegatedpath/*"])
    world.publish("delegated", "targets", "snapshot", "timestamp")
    assert world.refresh()
    del world.snapshot.meta["delegated.json"]
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions()[2] == 2


@case()
def test_targets_fast_forward_recovery(world):
    """As below, and a role that nobody wants goes with the old snapshot's key."""
    assert world.init()
    world.delegate("targets", "delegated", ["delegatedpath/*"])
    world.publish("delegated")
    world.targets.version = 100
    world.put("targets", 100)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    assert world.versions()[3] == 100
    world.rotate("snapshot")
    world.publish("root")
    del world.snapshot.meta["delegated.json"]
    world.targets.version = 1
    world.put("targets", 1)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    assert world.versions()[3] == 1


@case()
def test_new_timestamp_fast_forward_recovery(world):
    assert world.init()
    world.timestamp.version = 99999
    world.put("timestamp", 99999)
    assert world.refresh()
    world.rotate("timestamp")
    world.publish("root")
    world.timestamp.version = 1
    world.put("timestamp", 1)
    assert world.refresh()
    assert world.versions()[1] == 1


@case()
def test_new_snapshot_fast_forward_recovery(world):
    assert world.init()
    world.snapshot.version = 99999
    world.put("snapshot", 99999)
    world.publish("timestamp")
    assert world.refresh()
    assert world.versions()[2] == 99999
    world.rotate("snapshot")
    world.rotate("timestamp")
    world.publish("root")
    world.snapshot.version = 1
    world.put("snapshot", 1)
    world.publish("timestamp")
    assert world.refresh()
    assert world.versions()[2] == 1


@case()
def test_new_targets_fast_forward_recovery(world):
    assert world.init()
    world.targets.version = 99999
    world.put("targets", 99999)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    assert world.versions()[3] == 99999
    world.rotate("snapshot")
    world.publish("root")
    world.targets.version = 1
    world.put("targets", 1)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    assert world.versions()[3] == 1


@case()
def test_new_snapshot_version_mismatch(world):
    assert world.init()
    world.snapshot.version = 2
    world.put("snapshot", 1)
    world.timestamp.snapshot_meta = MetaFile(1)
    world.publish("timestamp")
    assert not world.refresh()
    assert world.versions()[2] == 0
    assert world.requests()[-1] == "1.snapshot"


# Rotation: for each version its keys, how many must sign, and who does.

ALL, NEW, MIXED = [0, 1, 2, 3, 4], [5, 6, 7, 8, 9], [0, 1, 3, 4, 5]
ROOTS = {
    "1-of-1-key-rotation": [([1], 1, [1]), ([2], 1, [2, 1]), ([2], 1, [2])],
    "1-of-1-key-rotation-unused-signatures":
        [([1], 1, [3, 1, 4]), ([2], 1, [3, 2, 1, 4]), ([2], 1, [3, 2, 4])],
    "3-of-5-sign-with-different-keycombos":
        [(ALL, 3, [0, 2, 4]), (ALL, 3, [0, 4, 1]), (ALL, 3, [0, 1, 3]), (ALL, 3, [0, 1, 3])],
    "3-of-5-one-key-rotated": [(ALL, 3, [0, 2, 4]), (MIXED, 3, [0, 4, 1])],
    "3-of-5-one-key-rotated-with-intermediate-step":
        [(ALL, 3, [0, 2, 4]), (MIXED, 3, [0, 2, 4, 5]), (MIXED, 3, [0, 4, 5])],
    "3-of-5-all-keys-rotated-with-intermediate-step":
        [(ALL, 3, [0, 2, 4]), (NEW, 3, [0, 2, 4, 5, 6, 7]), (NEW, 3, [5, 6, 7])],
    "1-of-3-threshold-increase-to-2-of-3": [([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [1, 2])],
    "2-of-3-threshold-decrease-to-1-of-3":
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1, 2]), ([1, 2, 3], 1, [1])],
    "1-of-2-threshold-increase-to-2-of-2": [([1], 1, [1]), ([1, 2], 2, [1, 2])],
    "1-of-1-key-rotation-fail-not-signed-with-old-key": [([1], 1, [1]), ([2], 1, [2, 3, 4])],
    "1-of-1-key-rotation-fail-not-signed-with-new-key": [([1], 1, [1]), ([2], 1, [1, 3, 4])],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-new-keys":
        [(ALL, 3, [0, 2, 4]), (MIXED, 3, [0, 2, 4])],
    "3-of-5-one-key-rotate-fails-not-signed-with-3-old-keys":
        [(ALL, 3, [0, 2, 4]), (MIXED, 3, [0, 4, 5])],
    "1-of-3-threshold-bump-to-2-of-3-fails-new-threshold-not-reached":
        [([1, 2, 3], 1, [1]), ([1, 2, 3], 2, [2])],
    "2-of-3-threshold-decr-to-1-of-3-fails-old-threshold-not-reached":
        [([1, 2, 3], 2, [1, 2]), ([1, 2, 3], 1, [1])],
}
OTHERS = {
    "1-of-1-key-rotation": ([2], 1, [2]),
    "1-of-1-key-rotation-unused-signatures": ([1], 1, [3, 1, 4]),
    "1-of-1-key-rotation-fail-not-signed-with-new-key": ([2], 1, [1, 3, 4]),
    "3-of-5-one-key-signature-wrong-not-signed-with-3-expected-keys": (MIXED, 3, [0, 2, 4]),
    "2-of-5-one-key-signature-missing-threshold-not-reached": (MIXED, 3, [0, 4]),
    "3-of-5-sign-first-combo": (ALL, 3, [0, 2, 4]),
    "3-of-5-sign-second-combo": (ALL, 3, [0, 4, 1]),
    "3-of-5-sign-third-combo": (ALL, 3, [0, 1, 3]),
    "3-of-5-sign-fourth-combo": (ALL, 3, [1, 2, 3]),
    "3-of-5-sign-fifth-combo": (ALL, 3, [2, 3, 4]),
}
SIGNERS = [CryptoSigner.generate_ed25519() for _ in range(10)]


def seat(world, role, keys, threshold, signing):
    world.take_keys(role)
    world.root.roles[role].threshold = threshold
    for number in keys:
        world.add_key(role, SIGNERS[number])
    world.signers[role] = [SIGNERS[number] for number in signing]


@case(ROOTS)
def test_root_rotation(world, value):
    for version, (keys, threshold, signing) in enumerate(value, 1):
        seat(world, "root", keys, threshold, signing)
        world.root.version = version
        world.put("root", version)
    assert world.init(world.served("1.root"))
    (old, old_threshold, _), (new, threshold, signing) = value[-2:]
    is_sound = (len(set(old) & set(signing)) >= old_threshold
                and len(set(new) & set(signing)) >= threshold)
    assert world.refresh() == is_sound
    last = len(value) if is_sound else len(value) - 1
    assert world.kept("root") == world.served(f"{last}.root")


@case(OTHERS)
def test_non_root_rotations(world, value):
    keys, threshold, signing = value
    assert world.init()
    for role in ("timestamp", "snapshot", "targets"):
        seat(world, role, keys, threshold, signing)
        world.publish("root")
        # The role first, then those that list it.
        order = ("targets", "snapshot", "timestamp")
        world.publish(*order[order.index(role):])
        is_sound = len(set(keys) & set(signing)) >= threshold
        assert world.refresh() == is_sound, role
        if not is_sound:
            return
        number = world.roles[role].signed.version
        name = role if role == "timestamp" else f"{number}.{role}"
        assert world.kept(role) == world.served(name)


# Downloads.

@case()
def test_client_downloads_expected_file(world):
    assert world.init()
    world.add_file("target_file.txt", b"target file contents")
    world.publish("targets", "snapshot", "timestamp")
    assert world.refresh()
    assert world.downloads() == []
    assert world.download("target_file.txt")
    assert world.downloads() == [b"target file contents"]


@case()
def test_client_downloads_expected_file_in_sub_dir(world):
    assert world.init()
    world.add_file("path/to/a/target_file.txt", b"target file contents")
    world.publish("targets", "snapshot", "timestamp")
    assert world.download("path/to/a/target_file.txt")
    assert world.downloads() == [b"target file contents"]


@case()
def test_repository_substitutes_target_file(world):
    assert world.init()
    world.add_file("one", b"content one")
    world.add_file("two", b"content two")
    world.publish("targets", "snapshot", "timestamp")
    assert world.download("one")
    for name in ("one", "two"):
        world.serve_file(name, b"malicious 1")
    # Whether it asks again is its own affair; what it has stays what was signed.
    world.download("one")
    assert world.downloads() == [b"content one"]
    assert not world.download("two")
    assert world.downloads() == [b"content one"]


@case()
def test_multiple_changes_to_target(world):
    assert world.init()
    held = b"version 0"
    world.add_file("file", held)
    world.publish("targets", "snapshot", "timestamp")
    assert world.download("file")
    others = []
    for turn in range(6):
        held = f"version {turn} + 1".encode()
        world.add_file("file", held)
        world.add_file(f"new {turn}", f"new {turn}".encode())
        world.publish("targets", "snapshot", "timestamp")
        if turn % 2:
            continue
        others.append(f"new {turn}".encode())
        assert world.download("file") and world.download(f"new {turn}")
        assert world.downloads() == sorted([held, *others])
        world.serve_file("file", b"malicious contents")
        world.publish("targets", "snapshot", "timestamp")
        world.download("file")
        assert world.downloads() == sorted([held, *others])


@case({"hashes0": ["sha256"], "hashes1": ["sha512"], "hashes2": ["sha256", "sha512"]})
def test_download_with_hash_algorithms(world, value):
    world.add_file("file", b"content", hashes=value)
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.download("file")
    assert world.downloads() == [b"content"]


@case()
def test_download_with_unknown_hash_algorithm(world):
    target = world.add_file("file", b"content", hashes=["sha512"])
    target.hashes["unknown-hash"] = target.hashes.pop("sha512")
    world.serve_file("file", b"content")
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and not world.download("file")
    assert world.downloads() == []


@case()
def test_artifact_cache(world):
    world.add_file("one", b"content one")
    world.add_file("two", b"content two")
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.download("one", "two")
    world.asked.clear()
    assert world.download("one", "two")
    assert [path for path in world.asked if path.startswith("targets/")] == []
    # The first that is not there ends the run.
    assert not world.download("three", "one")
