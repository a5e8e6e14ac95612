"""Writes metadata/ with python-tuf, the reference implementation: a judge of our reading.

Run once, with `pip install tuf==7.0.0 'securesystemslib[crypto]==1.4.0'`; the files are never edited
afterwards. Root 2 takes back a root key and the timestamp key; texts hold everything that canonical
JSON treats in its own way.
"""

import hashlib
import os
from datetime import datetime, timezone

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

END = datetime(2036, 1, 1, tzinfo=timezone.utc)
FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "metadata")
signers = {name: CryptoSigner.generate_ed25519() for name in
           ("root1", "root2", "root3", "targets", "snapshot", "timestamp1", "timestamp2")}


def write(name, metadata):
    metadata.to_file(os.path.join(FOLDER, name), JSONSerializer(compact=False))


def meta(name, version):
    with open(os.path.join(FOLDER, f"{version}.{name}"), "rb") as file:
        data = file.read()
    return MetaFile(version, len(data), {"sha256": hashlib.sha256(data).hexdigest()})


root = Metadata(Root(expires=END, consistent_snapshot=True))
for name, role in (("root1", "root"), ("root2", "root"), ("targets", "targets"),
                   ("snapshot", "snapshot"), ("timestamp1", "timestamp")):
    root.signed.add_key(signers[name].public_key, role)
root.signed.roles["root"].threshold = 2
root.signed.unrecognized_fields["x-note"] = "not in the specification: \u00e4 \U0001f600 \x7f"
for name in ("root1", "root2"):
    root.sign(signers[name], append=True)
write("1.root.json", root)

root.signed.version = 2
root.signed.revoke_key(signers["root1"].public_key.keyid, "root")
root.signed.add_key(signers["root3"].public_key, "root")
root.signed.revoke_key(signers["timestamp1"].public_key.keyid, "timestamp")
root.signed.add_key(signers["timestamp2"].public_key, "timestamp")
root.signatures.clear()
for name in ("root1", "root2", "root3"):
    root.sign(signers[name], append=True)
write("2.root.json", root)

targets = Metadata(Targets(version=7, expires=END))
content = b"the package\n"
file = TargetFile.from_data("Holdfast \u00e4.spk", content, ["sha256", "sha512"])
file.unrecognized_fields["custom"] = {
    "kind": "spk", "package": "Holdfast", "version": "1.0-1", "platforms": ["x86_64"],
    "channel": "stable", "dsm_major": 7, "build_min": 40000,
    "note": "quotes \" and \\ and a\nline, a tab\t, \x01, / and \u2028", "Z": -1, "a": [None, True],
}
targets.signed.targets[file.path] = file
targets.sign(signers["targets"])
write("7.targets.json", targets)

snapshot = Metadata(Snapshot(version=5, expires=END, meta={"targets.json": meta("targets.json", 7)}))
snapshot.sign(signers["snapshot"])
write("5.snapshot.json", snapshot)

timestamp = Metadata(Timestamp(version=9, expires=END, snapshot_meta=meta("snapshot.json", 5)))
timestamp.sign(signers["timestamp2"])
write("timestamp.json", timestamp)
