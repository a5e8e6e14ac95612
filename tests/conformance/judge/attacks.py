"""The list of attacks, a row each: judged here, or by the test that is named.

`ROWS` is the whole list. A row that a client of metadata meets is a case here (sometimes several,
`[a]`, `[b]`); a row of another room names the file and the test that judges it, and the judge looks
whether that test is there.
"""

import json
import os
import resource
import signal
from datetime import timedelta

from table import into
from tuf.api.metadata import MetaFile, TargetFile

CASES = []

ROWS = {
    1: "arbitrary software", 2: "rollback metadata", 3: "rollback of payload", 4: "freeze",
    5: "fast-forward", 6: "mix-and-match", 7: "endless data / slowloris",
    8: "extraneous dependency", 9: "wrong arch / wrong package / wrong channel",
    10: "threshold games", 11: "online key stolen", 12: "one root key stolen",
    13: "root chain hole", 14: "path traversal in target NAME", 15: "tar entries",
    16: "decompression bomb", 17: "TOCTOU on the downloaded file", 18: "partial download / resume",
    19: "redirect / downgrade", 20: "clock attack", 21: "power cut",
    22: "disk full / read-only / EIO", 23: "optional-signature strip", 24: "JSON ambiguity",
    25: "concurrent updaters",
}

ELSEWHERE = {
    3: ("supervisor/trust/tests/attacks/main.rs", "attack_3_a_sound_list_without_a_newer_package"),
    8: ("supervisor/trust/tests/attacks/main.rs", "attack_8_members_that_ask_for_other_packages"),
    9: ("supervisor/trust/tests/attacks/main.rs", "attack_9_a_file_signed_for_another_box"),
    15: ("spk/tests/hostile.rs", "nothing_is_unpacked_outside_the_folder"),
    16: ("spk/tests/hostile.rs", "a_small_file_that_unpacks_to_a_large_one_stops_early"),
}


# Cases that kill the client, take its disk or start several: for a program, not for a library.
PROGRAMS_ONLY = []


def row(number, values=None, programs_only=False):
    """`@case` under the row's number and name."""
    case = into(PROGRAMS_ONLY if programs_only else CASES)

    def put(function):
        function.__name__ = f"attack {number} {ROWS[number]}"
        return case(values)(function)
    return put


def sound(world):
    """A repository with one file, and a client that has read it once."""
    world.lists_hashes = True
    world.add_file("package.spk", b"the package")
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and world.refresh()


def next_version(world):
    world.publish("targets", "snapshot", "timestamp")


@row(1)
def _(world):
    sound(world)
    for bytes_ in (b"tHe package", b"the packag", b"the package!", b""):
        world.serve_file("package.spk", bytes_)
        assert not world.download("package.spk")
        assert world.downloads() == []
    # And a list that says so, signed by somebody.
    world.add_file("package.spk", b"tHe package")
    world.signers["targets"].clear()
    next_version(world)
    assert not world.download("package.spk")
    assert world.downloads() == []


@row(2, {"all of it": ("timestamp", "targets", "snapshot"), "snapshot": ("snapshot",),
         "targets": ("targets",)})
def _(world, value):
    sound(world)
    next_version(world)
    assert world.refresh()
    before = world.versions()
    for role in ("targets", "snapshot", "timestamp"):
        if role in value:
            world.roles[role].signed.version -= 1
            world.put(role, world.roles[role].signed.version)
        else:
            world.publish(role)
    assert not world.refresh()
    # A sound newer list above the one that went back may be kept, nothing that is lower.
    assert all(now >= then for now, then in zip(world.versions(), before))
    assert world.versions()[3] == before[3]


@row(4, {"timestamp": 20, "snapshot": 20, "targets": 20})
def _(world, value):
    world.root.expires = world.end + timedelta(days=3000)
    world.publish("root")
    sound(world)
    assert world.refresh(days=value)
    kept = [world.kept(role) for role in ("timestamp", "snapshot", "targets")]
    assert not world.refresh(days=31)
    assert kept == [world.kept(role) for role in ("timestamp", "snapshot", "targets")]


@row(5, {"2^53": 2**53, "2^63 - 1": 2**63 - 1})
def _(world, value):
    sound(world)
    for role in ("snapshot", "timestamp"):
        world.roles[role].signed.version = value
        world.put(role, value)
    assert world.refresh()
    assert world.versions()[1:3] == [value, value]
    for role in ("snapshot", "timestamp"):
        world.roles[role].signed.version = 3
        world.put(role, 3)
    assert not world.refresh()
    world.rotate("snapshot")
    world.rotate("timestamp")
    for role in ("snapshot", "timestamp"):
        world.put(role, 3)
    world.publish("root")
    assert world.refresh()
    assert world.versions()[1:3] == [3, 3]


@row(5, {"the timestamp's key stays": "snapshot", "the snapshot's key stays": "timestamp"})
def _(world, value):
    """Both online keys were in the attacker's hands, and one of them is taken back: what either
    vouched for is forgotten, though the other's old signature would still do."""
    sound(world)
    for role in ("targets", "snapshot", "timestamp"):
        world.roles[role].signed.version = 2**53
    world.snapshot.meta["targets.json"] = MetaFile(2**53)
    for role in ("snapshot", "timestamp"):
        world.put(role, 2**53)
    # The list that is named is nowhere, so this fails; what is above it was kept.
    assert not world.refresh()
    assert world.versions()[1:] == [2**53, 2**53, 2]
    world.rotate(value)
    for role in ("targets", "snapshot", "timestamp"):
        world.roles[role].signed.version = 3
        world.put(role, 3)
    world.publish("root")
    assert world.refresh()
    assert world.versions()[1:] == [3, 3, 3]


@row(6, {"snapshot": "snapshot", "targets": "targets"})
def _(world, value):
    sound(world)
    next_version(world)
    # The older one, soundly signed, behind the newer one's name.
    world.files[f"metadata/3.{value}.json"] = world.served(f"2.{value}")
    assert not world.refresh()
    assert world.versions()[3] == 2


def endless(handler):
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65536)
    except OSError:
        pass


ENDLESS = ("2.root", "timestamp", "3.snapshot", "3.targets")


@row(7, {**{name: name for name in ENDLESS}, "file": None})
def _(world, value):
    sound(world)
    next_version(world)
    if value is None:
        world.serve_file("package.spk", endless)
        assert not world.download("package.spk")
        assert world.downloads() == []
        return
    world.files[f"metadata/{value}.json"] = endless
    assert not world.refresh()
    assert world.versions()[3] == 2


@row(10, {"one key, two names": False, "one signature twice": True})
def _(world, value):
    sound(world)
    keyid = world.root.roles["timestamp"].keyids[0]
    world.root.roles["timestamp"].threshold = 2
    if not value:
        alias = "ab" * 32
        other = world.root.keys[keyid].to_dict()
        world.root.keys[alias] = type(world.root.keys[keyid]).from_dict(alias, other)
        world.root.roles["timestamp"].keyids.append(alias)
    else:
        world.add_key("timestamp")
        world.signers["timestamp"].pop()
    world.publish("root", "timestamp")

    def twice(data):
        envelope = json.loads(data)
        entry = dict(envelope["signatures"][0])
        if not value:
            entry["keyid"] = alias
        envelope["signatures"].append(entry)
        return json.dumps(envelope).encode()
    world.replace("timestamp", twice)
    assert not world.refresh()
    assert world.versions()[1] == 2


@row(11)
def _(world):
    """Who has the online keys can say again what was said, and nothing new."""
    sound(world)
    world.publish("snapshot", "timestamp")
    assert world.refresh()
    world.signers["targets"].clear()
    world.add_file("evil.spk", b"evil")
    next_version(world)
    assert not world.download("evil.spk")
    assert world.downloads() == [] and world.versions()[3] == 2


@row(12)
def _(world):
    world.add_key("root")
    world.add_key("root")
    world.root.roles["root"].threshold = 2
    world.publish("root")
    sound(world)
    stolen = world.signers["root"][:1]
    world.take_keys("root")
    world.add_key("root")
    world.add_key("root")
    world.signers["root"].extend(stolen)
    world.publish("root")
    assert not world.refresh()
    assert world.versions()[0] == 2


@row(13)
def _(world):
    sound(world)
    world.publish("root", "root")
    second = world.served("2.root")
    world.hide("2.root")
    # The third is never reached; the first holds while it lasts, and no longer.
    assert world.refresh() and world.versions()[0] == 1
    assert not world.refresh(days=31)
    world.files["metadata/2.root.json"] = world.served("3.root")
    assert not world.refresh() and world.versions()[0] == 1
    world.files["metadata/2.root.json"] = second
    assert world.refresh() and world.versions()[0] == 3


NAMES = {"parent": "../../escaped", "absolute": "/tmp/escaped", "quoted": "%2e%2e%2fescaped",
         "dots": "..", "mark": "a?b", "hash": "a#b", "line": "a\nb", "blank": " ",
         "4 KB": "a" * 4096, "metadata": "root.json"}


@row(14, NAMES)
def _(world, value):
    sound(world)
    target = TargetFile.from_data(value, b"content", ["sha256"])
    world.targets.targets[value] = target
    folder, slash, last = value.rpartition("/")
    world.files[f"targets/{folder}{slash}{target.hashes['sha256']}.{last}"] = b"content"
    next_version(world)
    before = sorted(os.listdir(world.folder)) + sorted(os.listdir(world.path("kept")))
    world.download(value)
    after = sorted(os.listdir(world.folder)) + sorted(os.listdir(world.path("kept")))
    assert [name for name in after if name != "downloads"] == before
    assert not os.path.exists("/tmp/escaped")
    # Whether it takes such a name at all is its own affair; if it does, the file is whole.
    assert world.downloads() in ([], [b"content"])


@row(17)
def _(world):
    sound(world)
    assert world.download("package.spk")
    [name] = os.listdir(world.path("downloads"))
    with open(world.path(f"downloads/{name}"), "wb") as file:
        file.write(b"tHe package")
    # What lies there is hashed again before it counts.
    assert world.download("package.spk")
    assert world.downloads() == [b"the package"]


@row(18)
def _(world):
    content = os.urandom(300_000)
    world.add_file("large", content)
    sound(world)
    for end in (0, 1, 65536, 131072, 262144, len(content) - 1):
        world.serve_file("large", lambda handler, end=end:
                         handler.answer(200, content[:end], length=len(content)))
        assert not world.download("large")
        assert world.downloads() == [], end
    world.serve_file("large", content)
    assert world.download("large")
    assert world.downloads() == [content]


@row(19, {"another host": "http://127.0.0.1:1/", "a file": "file:///etc/passwd", "itself": ""})
def _(world, value):
    sound(world)
    to = value or f"{world.url}/metadata/timestamp.json"
    world.files["metadata/timestamp.json"] = lambda handler: handler.answer(302, Location=to)
    assert not world.refresh()
    assert world.requests().count("timestamp") <= 10


@row(20)
def _(world):
    """A clock decades ahead believes nothing, and what was kept serves when it is right again."""
    sound(world)
    assert not world.refresh(days=20_000)
    assert world.refresh()
    assert world.versions()[1:] == [2, 2, 2]


@row(21, programs_only=True)
def _(world):
    """The power goes at each request in turn; the next run goes on from what was kept."""
    sound(world)
    world.rotate("snapshot")
    world.publish("root", "targets", "snapshot", "timestamp")
    whole = dict(world.files)
    for name in ("3.root", "timestamp", "3.snapshot", "3.targets"):
        def cut(handler):
            world.client.process.send_signal(signal.SIGKILL)
        world.files[f"metadata/{name}.json"] = cut
        process = world.client.start(0, *world.flags(), "refresh")
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        world.files = dict(whole)
        world.versions()
    assert world.refresh()
    assert world.versions() == [2, 3, 3, 3]


@row(22, {"metadata": "refresh", "file": "download"}, programs_only=True)
def _(world, value):
    """Whatever cannot be written, what was there stays whole."""
    content = os.urandom(200_000)
    world.add_file("large", content)
    sound(world)
    before = world.versions()
    kept = {role: world.kept(role) for role in ("root", "timestamp", "snapshot", "targets")}
    if value == "refresh":
        next_version(world)

    def no_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        limit = 1 if value == "refresh" else 100_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if value == "refresh":
        assert not world.refresh(before=no_room)
        assert world.versions() == before
        assert all(world.kept(role) == data for role, data in kept.items())
        assert world.refresh()
    else:
        flags = ("--target-name", "large", "--target-dir", world.path("downloads"),
                 "--target-base-url", f"{world.url}/targets/", "download")
        assert not world.run(0, *flags, before=no_room)
        assert world.downloads() == []
        assert world.download("large")


@row(23, {"timestamp": "timestamp", "snapshot": "2.snapshot", "targets": "2.targets"})
def _(world, value):
    world.publish("targets", "snapshot", "timestamp")
    assert world.init()
    sound_file = json.loads(world.served(value))
    for bare in ({**sound_file, "signatures": []}, {"signed": sound_file["signed"]},
                 sound_file["signed"]):
        world.replace(value, lambda _, bare=bare: json.dumps(bare).encode())
        assert not world.refresh()
    world.replace(value, lambda _: json.dumps(sound_file).encode())
    assert world.refresh()


AMBIGUOUS = {
    "a key twice": lambda text: text.replace('"version": 3', '"version": 9, "version": 3'),
    "a fraction": lambda text: text.replace('"version": 3', '"version": 3.0'),
    "an exponent": lambda text: text.replace('"version": 3', '"version": 3e0'),
    "a mark of byte order": lambda text: "\ufeff" + text,
    "something after it": lambda text: text + "{}",
    "depth": lambda text: '{"signed":' + "[" * 100_000 + text,
    "a lone surrogate": lambda text: text.replace('"version": 3', '"v": "\\ud800", "version": 3'),
    "nothing": lambda text: "",
    "a page of a hotel's network": lambda text: "<html>Welcome</html>",
}


@row(24, AMBIGUOUS)
def _(world, value):
    sound(world)
    world.publish("timestamp")
    text = json.dumps(json.loads(world.served("timestamp")))
    changed = value(text)
    assert changed != text
    world.replace("timestamp", lambda _: changed.encode())
    assert not world.refresh()
    assert world.versions()[1] == 2
    # White space and order have no meaning, so they may differ.
    world.replace("timestamp", lambda _: text.encode())
    assert world.refresh()


@row(25, programs_only=True)
def _(world):
    """Several at once on one folder: every one of them is right, and so is what they leave."""
    sound(world)
    for _ in range(5):
        next_version(world)
        flags = (*world.flags(), "refresh")
        processes = [world.client.start(0, *flags) for _ in range(4)]
        for process in processes:
            _, said = process.communicate()
            assert process.returncode == 0, said
        world.versions()
        assert world.refresh()
    assert world.versions()[3] == 7


def rows_without_a_judge(root):
    """Rows of the list that nothing judges, and tests that are named and not there."""
    mine = {int(name.split()[1]) for name, _ in CASES + PROGRAMS_ONLY}
    for number, name in ROWS.items():
        if number in ELSEWHERE:
            path, test = ELSEWHERE[number]
            with open(os.path.join(root, path), encoding="utf-8") as file:
                if f"fn {test}" not in file.read():
                    yield f"attack {number} {name}: {path} has no test {test}"
        elif number not in mine:
            yield f"attack {number} {name}: nobody judges it"
