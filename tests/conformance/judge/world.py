"""A repository that python-tuf makes and signs, served over HTTP, and the client that is judged.

Whatever an honest keeper or an attacker might do is a line here: metadata is python-tuf's own
objects, changed at will and then published; what is served is a table of names and bytes.
"""

import hashlib
import os
import shutil
import subprocess
import threading
from contextlib import suppress
from copy import deepcopy
from datetime import datetime, timedelta, timezone
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib import parse

from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import (
    DelegatedRole, Delegations, Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp,
)
from tuf.api.serialization.json import JSONSerializer

TOP = ("root", "timestamp", "snapshot", "targets")
# A client that takes longer than this hangs.
CLIENT_SECONDS_MAX = 300


class Program:
    """The client under judgment: a program with the suite's command line."""

    def __init__(self, path):
        self.path, self.process = path, None

    def start(self, days, *arguments, before=None):
        clock = ["faketime", "-f", f"+{days}d"] if days else []
        self.process = subprocess.Popen(
            [*clock, self.path, *arguments], preexec_fn=before,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        return self.process

    def run(self, days, *arguments, before=None):
        process = self.start(days, *arguments, before=before)
        _, said = process.communicate(timeout=CLIENT_SECONDS_MAX)
        assert process.returncode in (0, 1), f"exit code {process.returncode}: {said}"
        return process.returncode == 0


class Reference:
    """python-tuf's own client, by which the cases themselves are judged."""

    def run(self, days, *arguments, **_):
        given = dict(zip(arguments[:-1:2], arguments[1::2]))
        names = [value for flag, value in zip(arguments, arguments[1:]) if flag == "--target-name"]
        if "init" in arguments:
            os.makedirs(given["--metadata-dir"], exist_ok=True)
            shutil.copy(arguments[-1], os.path.join(given["--metadata-dir"], "root.json"))
            return True
        from tuf.ngclient import Updater
        try:
            updater = Updater(
                given["--metadata-dir"], given["--metadata-url"], given.get("--target-dir"),
                given.get("--target-base-url"), bootstrap=None,
            )
            if days:
                updater._trusted_set.reference_time += timedelta(days=days)
            updater.refresh()
            for name in names:
                info = updater.get_targetinfo(name)
                if info is None:
                    return False
                if not updater.find_cached_target(info):
                    updater.download_target(info)
            return True
        except Exception:
            return False


class World:
    def __init__(self, client, folder):
        self.client, self.folder = client, folder
        self.files, self.asked = {}, []
        self.end = datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=30)
        self.lists_hashes = False
        self.roles, self.signers, self.published = {}, {}, set()
        for name, kind in zip(TOP, (Root, Timestamp, Snapshot, Targets)):
            self.roles[name] = Metadata(kind(expires=self.end))
        for name in TOP:
            self.signers[name] = []
            self.add_key(name)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler())
        self.server.daemon_threads = True
        serve = partial(self.server.serve_forever, poll_interval=0.01)
        threading.Thread(target=serve, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.publish("targets", "snapshot", "timestamp", "root")
        self.first_root = self.served("1.root")

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def handler(world):
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                path = self.path.lstrip("/")
                world.asked.append(path)
                found = world.files.get(path, world.files.get(parse.unquote(path)))
                if callable(found):
                    self.close_connection = True
                    return found(self)
                self.answer(200 if found is not None else 404, found or b"")

            def answer(self, status, body=b"", length=None, **headers):
                """One write, so that nothing waits for anything."""
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) if length is None else length))
                self.end_headers_with(body)

            def end_headers_with(self, body):
                self._headers_buffer.append(b"\r\n" + body)
                self.flush_headers()

            def handle(self):
                # A client may have enough at any time.
                with suppress(ConnectionError):
                    super().handle()

            def log_message(self, *_):
                pass

        return Handler

    # What is in the metadata.

    def __getattr__(self, name):
        if name in TOP:
            return self.roles[name].signed
        raise AttributeError(name)

    def add_key(self, role, signer=None, delegator="root"):
        """One more key for a role, which signs from now on."""
        signer = signer or CryptoSigner.generate_ed25519()
        self.roles[delegator].signed.add_key(deepcopy(signer.public_key), role)
        self.signers.setdefault(role, []).append(signer)
        return signer

    def take_keys(self, role):
        """Takes all keys of a role back, and stops signing with them."""
        for keyid in list(self.root.roles[role].keyids):
            self.root.revoke_key(keyid, role)
        self.signers[role].clear()

    def rotate(self, role):
        self.take_keys(role)
        for _ in range(self.root.roles[role].threshold):
            self.add_key(role)

    def add_file(self, name, content, role="targets", hashes=("sha256",)):
        """Lists a file and serves it under each of its hashes."""
        target = TargetFile.from_data(name, content, list(hashes))
        self.roles[role].signed.targets[name] = target
        self.serve_file(name, content, role)
        return target

    def serve_file(self, name, content, role="targets"):
        """Serves these bytes where the list says the file is."""
        folder, slash, last = name.rpartition("/")
        for value in self.roles[role].signed.targets[name].hashes.values():
            self.files[f"targets/{folder}{slash}{value}.{last}"] = content

    def delegate(self, delegator, role, paths=("*",), terminating=False):
        signed = self.roles[delegator].signed
        if signed.delegations is None:
            signed.delegations = Delegations({}, roles={})
        delegated = DelegatedRole(role, [], 1, terminating, paths=list(paths))
        signed.delegations.roles[role] = delegated
        self.add_key(role, delegator=delegator)
        self.roles.setdefault(role, Metadata(Targets(expires=self.end)))

    # What is served.

    def publish(self, *roles):
        """Signs and serves the next version of each, in this order; each tells who lists it."""
        for role in roles:
            metadata = self.roles[role]
            if role in self.published:
                metadata.signed.version += 1
            self.put(role, metadata.signed.version)

    def put(self, role, number):
        """Signs what a role says now and serves it as that version."""
        metadata = self.roles[role]
        self.published.add(role)
        metadata.signatures.clear()
        for signer in self.signers[role]:
            metadata.sign(signer, append=True)
        data = metadata.to_bytes(JSONSerializer())
        name = role if role == "timestamp" else f"{number}.{parse.quote(role, '')}"
        self.files[f"metadata/{name}.json"] = data
        listed = MetaFile(metadata.signed.version)
        if self.lists_hashes:
            sha256 = {"sha256": hashlib.sha256(data).hexdigest()}
            listed = MetaFile(metadata.signed.version, len(data), sha256)
        if role == "snapshot":
            self.timestamp.snapshot_meta = listed
        elif role not in TOP or role == "targets":
            self.snapshot.meta[f"{role}.json"] = listed

    def served(self, name):
        return self.files[f"metadata/{name}.json"]

    def replace(self, name, change):
        """Serves changed bytes under a name of metadata."""
        self.files[f"metadata/{name}.json"] = change(self.served(name))

    def hide(self, name):
        del self.files[f"metadata/{name}.json"]

    # The client.

    def path(self, name):
        return os.path.join(self.folder, name)

    def init(self, root=None):
        with open(self.path("first"), "wb") as file:
            file.write(root or self.first_root)
        return self.client.run(0, "--metadata-dir", self.path("kept"), "init", self.path("first"))

    def flags(self):
        return ("--metadata-dir", self.path("kept"), "--metadata-url", f"{self.url}/metadata")

    def run(self, days, *arguments, **how):
        self.asked.clear()
        return self.client.run(days, *self.flags(), *arguments, **how)

    def refresh(self, days=0, **how):
        """One update; whether the client says that all is well."""
        return self.run(days, "refresh", **how)

    def download(self, *names, days=0):
        flags = [word for name in names for word in ("--target-name", name)]
        return self.run(
            days, *flags, "--target-dir", self.path("downloads"),
            "--target-base-url", f"{self.url}/targets/", "download",
        )

    def requests(self):
        """The names of metadata that the last run asked for."""
        return [path[9:-5] for path in self.asked if path.startswith("metadata/")]

    def kept(self, role):
        """The bytes the client keeps of a role."""
        with open(self.path(f"kept/{role}.json"), "rb") as file:
            return file.read()

    def versions(self):
        """The versions the client keeps of root, timestamp, snapshot, targets; 0 for none."""
        found = []
        for role in TOP:
            there = os.path.exists(self.path(f"kept/{role}.json"))
            found.append(Metadata.from_bytes(self.kept(role)).signed.version if there else 0)
        return found

    def downloads(self):
        """The contents of all downloaded files, sorted."""
        folder = self.path("downloads")
        contents = []
        for place, _, names in os.walk(folder):
            for name in names:
                with open(os.path.join(place, name), "rb") as file:
                    contents.append(file.read())
        return sorted(contents)
