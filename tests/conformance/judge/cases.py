"""The suite's cases of the top-level roles by their names: first steps, keys, expiry. What each
does to the repository and expects of the client is the suite's, the words are ours.
"""

import hashlib
import json
from datetime import datetime, timedelta, timezone

from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from table import into
from tuf.api.metadata import Metadata, MetaFile
from world import TOP

CASES = []
case = into(CASES)


def ago(days):
    return datetime.now(timezone.utc).replace(microsecond=0) - timedelta(days=days)


def edit(change):
    """A change of the JSON in a file."""
    def changed(data):
        value = json.loads(data)
        change(value)
        return json.dumps(value).encode()
    return changed


def kept_as_served(world):
    for role, name in zip(TOP, ("1.root", "timestamp", "1.snapshot", "1.targets")):
        assert world.kept(role) == world.served(name), role


# First steps.

@case()
def test_basic_refresh_requests(world):
    assert world.init() and world.refresh()
    assert world.requests() == ["2.root", "timestamp", "1.snapshot", "1.targets"]


@case()
def test_basic_refresh_trusted_data(world):
    assert world.init() and world.refresh()
    kept_as_served(world)


@case()
def test_implicit_refresh(world):
    assert world.init()
    assert not world.download("nonexistent")
    assert world.requests() == ["2.root", "timestamp", "1.snapshot", "1.targets"]
    kept_as_served(world)


@case()
def test_invalid_initial_root(world):
    root = json.loads(world.first_root)
    del root["signed"]["version"]
    world.init(json.dumps(root).encode())
    assert not world.refresh()
    assert world.asked == []


@case()
def test_unsigned_initial_root(world):
    root = json.loads(world.first_root)
    root["signatures"][0]["sig"] = "30" * 71
    world.init(json.dumps(root).encode())
    assert not world.refresh()
    assert world.asked == []


@case({"root": [1, 0, 0, 0], "timestamp": [2, 0, 0, 0], "snapshot": [2, 2, 0, 0],
       "targets": [2, 2, 2, 0]})
def test_unsigned_metadata(world, value):
    role = TOP[sum(1 for version in value if version == 2)]
    world.signers[role].clear()
    world.publish("root", "targets", "snapshot", "timestamp")
    assert world.init() and not world.refresh()
    assert world.versions() == value


@case({"root": [1, 0, 0, 0], "snapshot": [2, 2, 0, 0], "targets": [2, 2, 2, 0]})
def test_url_and_metadata_version_mismatch(world, value):
    role = {0: "root", 2: "snapshot", 3: "targets"}[sum(1 for version in value if version == 2)]
    for name in ("root", "targets", "snapshot", "timestamp"):
        world.roles[name].signed.version = 3 if name == role else 2
        world.put(name, 2)
        # It is listed as what its address says.
        if name == "targets":
            world.snapshot.meta["targets.json"] = MetaFile(2)
        if name == "snapshot":
            world.timestamp.snapshot_meta = MetaFile(2)
    assert world.init() and not world.refresh()
    assert world.versions() == value


@case()
def test_timestamp_content_changes(world):
    assert world.init() and world.refresh()
    world.timestamp.snapshot_meta.version = 100
    world.put("timestamp", 1)
    # The client has a version 1 and goes on with that one.
    assert world.refresh()
    assert world.requests()[-1] == "timestamp"
    assert Metadata.from_bytes(world.kept("timestamp")).signed.snapshot_meta.version == 1


@case()
def test_timestamp_eq_versions_check(world):
    assert world.init() and world.refresh()
    before = world.kept("timestamp")
    world.timestamp.expires = world.end + timedelta(days=100)
    world.put("timestamp", 1)
    assert world.refresh()
    assert world.kept("timestamp") == before


@case()
def test_basic_metadata_hash_support(world):
    world.lists_hashes = True
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.refresh()
    world.publish("targets")
    world.snapshot.meta["targets.json"].hashes["sha256"] = "46" * 32
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions() == [1, 3, 3, 2]


@case()
def test_new_targets_hash_mismatch(world):
    world.lists_hashes = True
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.refresh()
    world.publish("targets", "snapshot", "timestamp")
    # The same length, the same version, soundly signed: only the hash differs.
    world.targets.expires += timedelta(days=1)
    world.targets.version = 3
    listed = world.snapshot.meta["targets.json"]
    world.put("targets", 3)
    world.snapshot.meta["targets.json"] = listed
    assert not world.refresh()
    assert world.versions()[3] == 2


@case()
def test_snapshot_hash_mismatch(world):
    world.lists_hashes = True
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.refresh()
    world.publish("snapshot")
    world.timestamp.snapshot_meta.hashes["sha256"] = "46" * 32
    world.publish("timestamp")
    assert not world.refresh()
    assert world.versions() == [1, 3, 2, 2]


@case()
def test_new_targets_version_mismatch(world):
    assert world.init() and world.refresh()
    # Newer targets that no snapshot tells of.
    world.publish("targets")
    assert world.refresh()
    assert world.versions() == [1, 1, 1, 1]


@case()
def test_metadata_bytes_match(world):
    assert world.init()
    world.replace("timestamp", lambda data: data + b" ")
    assert world.refresh()
    assert world.kept("timestamp") == world.served("timestamp")


def key_with(members):
    """A key whose form has members of others, and the id that goes with them."""
    signer = CryptoSigner.generate_ed25519()
    signer.public_key.unrecognized_fields.update(members)
    form = encode_canonical(signer.public_key.to_dict()).encode()
    signer.public_key.keyid = hashlib.sha256(form).hexdigest()
    return signer


@case()
def test_custom_fields(world):
    assert world.init() and world.refresh()
    world.root.unrecognized_fields["custom-field"] = "value"
    world.root.roles["root"].unrecognized_fields["another-field"] = "value"
    world.add_key("root", key_with({"extra-field": {"a": 1, "b": 2}}))
    world.publish("root")
    assert world.refresh()
    assert world.versions()[0] == 2


@case()
def test_deprecated_keyid_hash_algorithms(world):
    assert world.init()
    world.take_keys("snapshot")
    world.add_key("snapshot", key_with({"keyid_hash_algorithms": "md5"}))
    world.publish("root", "snapshot", "timestamp")
    assert world.refresh()
    assert world.versions()[:3] == [2, 2, 2]


@case()
def test_snapshot_404(world):
    assert world.init() and world.refresh()
    world.timestamp.snapshot_meta.version += 1
    world.publish("timestamp")
    assert not world.refresh()
    assert world.requests()[-1] == "2.snapshot"
    assert world.versions() == [1, 2, 1, 1]


@case()
def test_targets_404(world):
    assert world.init() and world.refresh()
    world.snapshot.meta["targets.json"].version += 1
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.requests()[-1] == "2.targets"
    assert world.versions() == [1, 2, 2, 1]


@case()
def test_timestamp_404(world):
    assert world.init() and world.refresh()
    world.hide("timestamp")
    assert not world.refresh()
    assert world.requests()[-1] == "timestamp"


@case()
def test_incorrect_metadata_type(world):
    assert world.init()
    # A snapshot that would do as a timestamp but for its type, signed by the timestamp's key.
    world.add_key("snapshot", world.signers["timestamp"][0])
    world.snapshot.meta = {"snapshot.json": MetaFile(1)}
    world.publish("root", "snapshot")
    world.files["metadata/timestamp.json"] = world.served("2.snapshot")
    assert not world.refresh()
    assert world.versions() == [2, 0, 0, 0]


@case()
def test_faketime(world):
    assert world.init()
    world.root.expires = world.end - timedelta(days=23)
    world.publish("root")
    assert world.refresh()
    assert not world.refresh(days=8)


# Keys and thresholds.

@case()
def test_snapshot_does_not_meet_threshold(world):
    world.root.roles["snapshot"].threshold = 3
    world.add_key("snapshot")
    world.add_key("snapshot")
    world.publish("root", "targets", "snapshot", "timestamp")
    assert world.init() and world.refresh()
    world.signers["snapshot"].pop()
    world.publish("targets", "snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions()[2] == 2


@case()
def test_snapshot_has_too_few_keys(world):
    assert world.init()
    for _ in range(4):
        world.add_key("snapshot")
    world.root.roles["snapshot"].threshold = 6
    world.publish("root", "snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions()[:3] == [2, 2, 0]


@case()
def test_duplicate_keys(world):
    """One key listed and signing nine times is one of the six that must sign."""
    assert world.init()
    signer = world.add_key("snapshot")
    keyid = signer.public_key.keyid
    world.root.roles["snapshot"].keyids.extend([keyid] * 8)
    world.root.roles["snapshot"].threshold = 6
    world.publish("root", "snapshot", "timestamp")

    def nine_times(value):
        mine = [entry for entry in value["signatures"] if entry["keyid"] == keyid]
        value["signatures"].extend(mine * 8)
    world.replace("2.snapshot", edit(nine_times))
    assert not world.refresh()
    assert world.versions()[2] == 0


@case()
def test_duplicate_sig_keyids(world):
    assert world.init()

    def twice(value):
        value["signatures"].append(value["signatures"][0])
    world.replace("1.snapshot", edit(twice))
    assert not world.refresh()
    assert world.versions()[2] == 0


KINDS = {
    "rsa/rsassa-pss-sha256": CryptoSigner.generate_rsa,
    "rsa/rsa-pkcs1v15-sha256": lambda: CryptoSigner.generate_rsa(scheme="rsa-pkcs1v15-sha256"),
    "ecdsa/ecdsa-sha2-nistp256": CryptoSigner.generate_ecdsa,
    "ed25519/ed25519": CryptoSigner.generate_ed25519,
}


@case(KINDS)
def test_keytype_and_scheme(world, value):
    assert world.init()
    signer = world.add_key("root", value())
    world.root.roles["root"].threshold = 2
    world.publish("root")
    assert world.refresh()
    assert world.versions()[0] == 2
    # The next root carries another signature of the same kind and key.
    world.publish("root")
    other = signer.sign(b"something else").signature

    def exchanged(value):
        for entry in value["signatures"]:
            if entry["keyid"] == signer.public_key.keyid:
                entry["sig"] = other
    world.replace("3.root", edit(exchanged))
    assert not world.refresh()
    assert world.versions()[0] == 2


@case()
def test_invalid_sig_in_valid_metadata(world):
    """One good signature is enough; a bad one, or none at all, of another key does no harm."""
    assert world.init()
    old = world.signers["timestamp"][0].public_key.keyid
    plausible = json.loads(world.served("timestamp"))["signatures"][0]["sig"]
    world.add_key("timestamp")
    world.publish("root")
    for wrong in (plausible, ""):
        world.publish("timestamp")

        def spoiled(value):
            for entry in value["signatures"]:
                if entry["keyid"] == old:
                    entry["sig"] = wrong
        world.replace("timestamp", edit(spoiled))
        assert world.refresh()


# Expiry.

@case()
def test_root_expired(world):
    assert world.init() and world.refresh()
    world.publish("root")
    assert world.refresh()
    world.root.expires = ago(1)
    world.publish("root", "targets")
    assert not world.refresh()
    # The root is kept, because the chain leads over it; nothing else is.
    assert world.versions() == [3, 1, 1, 1]


@case()
def test_timestamp_expired(world):
    assert world.init() and world.refresh()
    world.timestamp.expires = ago(5)
    world.publish("timestamp")
    assert not world.refresh()
    assert world.versions() == [1, 1, 1, 1]


@case()
def test_snapshot_expired(world):
    assert world.init() and world.refresh()
    world.snapshot.expires = ago(5)
    world.publish("snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions() == [1, 2, 1, 1]


@case()
def test_targets_expired(world):
    assert world.init() and world.refresh()
    world.targets.expires = ago(5)
    world.publish("targets", "snapshot", "timestamp")
    assert not world.refresh()
    assert world.versions() == [1, 2, 2, 1]


@case()
def test_expired_local_root(world):
    assert world.init()
    world.root.expires = ago(-7)
    world.publish("root")
    assert world.refresh()
    world.root.expires = ago(-21)
    world.publish("root")
    assert world.refresh(days=18)
    assert world.versions()[0] == 3


@case()
def test_expired_local_timestamp(world):
    assert world.init()
    world.timestamp.expires = ago(-7)
    world.publish("timestamp")
    assert world.refresh()
    world.timestamp.expires = ago(-21)
    world.publish("targets", "snapshot", "timestamp")
    assert world.refresh(days=18)
    assert world.versions() == [1, 3, 2, 2]
