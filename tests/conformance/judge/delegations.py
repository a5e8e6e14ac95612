"""The suite's cases of delegated roles, by their names. A client without delegations fails those in
which a role below `targets` must be asked; python-tuf's passes, which shows that the cases are
right.
"""

from datetime import datetime, timedelta, timezone
from urllib import parse

from table import into

CASES = []
case = into(CASES)

# Who delegates to whom, in which order they must be asked for a file nobody has.
# `!` ends the search below that role; `.py` delegates files of that name only.
GRAPHS = {
    "basic-delegation": ("targets-A", "A"),
    "single-level-delegations": ("targets-A targets-B", "A B"),
    "two-level-delegations": ("targets-A targets-B B-C", "A B C"),
    "two-level-test-DFS-order-of-traversal": ("targets-A targets-B A-C A-D", "A C D B"),
    "three-level-delegation-test-DFS-order-of-traversal":
        ("targets-A targets-B A-C C-D", "A C D B"),
    "two-level-terminating-ignores-all-but-roles-descendants":
        ("targets-A targets-B A-C! A-D", "A C"),
    "three-level-terminating-ignores-all-but-roles-descendants":
        ("targets-A targets-B A-C! C-D", "A C D"),
    "two-level-ignores-all-branches-not-matching-paths": ("targets-A.py targets-B A-C", "B"),
    "three-level-ignores-all-branches-not-matching-paths":
        ("targets-A targets-B A-C.py C-D", "A B"),
    "cyclic-graph": ("targets-A targets-B B-C C-D D-B", "A B C D"),
    "two-roles-delegating-to-a-third": ("targets-A targets-B B-C A-C", "A C B"),
    "two-roles-delegating-to-a-third-different-paths": ("targets-A targets-B B-C A-C.py", "A B C"),
}


def delegate_all(world, graph):
    roles = []
    for arrow in graph.split():
        delegator, role = arrow.split("-")
        paths = ["*.py"] if role.endswith(".py") else ["*"]
        name = role.removesuffix(".py").removesuffix("!")
        world.delegate(delegator, name, paths, role.endswith("!"))
        roles += [name] * (name not in roles)
    world.publish(*roles, "targets", "snapshot", "timestamp")


def in_days(days):
    return datetime.now(timezone.utc).replace(microsecond=0) + timedelta(days=days)


def asked(world):
    return world.requests()[4:]


@case(GRAPHS)
def test_graph_traversal(world, value):
    graph, order = value
    assert world.init()
    delegate_all(world, graph)
    assert not world.download("missing")
    assert asked(world) == [f"1.{role}" for role in order.split()]


SEARCHES = {
    "no delegations": ("targetfile", True, ""),
    "targetpath matches wildcard": ("README.md", True, "A"),
    "targetpath with separators x": ("releases/x/x_v1", True, "B C"),
    "targetpath with separators y": ("releases/y/y_v1.zip", True, "B D"),
    "targetpath is not delegated by all roles in the chain": ("releases/z/z_v1.zip", False, "B"),
}


@case(SEARCHES)
def test_targetfile_search(world, value):
    name, is_found, order = value
    world.delegate("targets", "A", ["*.doc", "*.md"])
    world.delegate("targets", "B", ["releases/*/*"])
    world.delegate("B", "C", ["releases/x/*"])
    world.delegate("B", "D", ["releases/y/*.zip"])
    for role, file in (("targets", "targetfile"), ("A", "README.md"), ("C", "releases/x/x_v1"),
                       ("D", "releases/y/y_v1.zip"), ("D", "releases/z/z_v1.zip")):
        world.add_file(file, file.encode(), role)
    world.publish("A", "B", "C", "D", "targets", "snapshot", "timestamp")
    assert world.init() and world.download(name) == is_found
    assert asked(world) == [f"1.{role}" for role in order.split()]
    assert world.downloads() == ([name.encode()] if is_found else [])


@case({name: name for name in ("?", "#", "/delegatedrole", "../delegatedrole")})
def test_unusual_role_name(world, value):
    world.delegate("targets", value)
    world.publish(value, "targets", "snapshot", "timestamp")
    assert world.init() and not world.download("missing")
    assert asked(world) == [f"1.{parse.quote(value, '')}"]


@case()
def test_delegation_not_in_snapshot(world):
    world.delegate("targets", "A")
    world.publish("A")
    del world.snapshot.meta["A.json"]
    world.add_file("file", b"content", "A")
    world.publish("targets", "snapshot", "timestamp")
    assert world.init() and not world.download("file")
    assert asked(world) == []


@case()
def test_cached_role_is_verified_against_current_delegator(world):
    """What one delegator's key signed for a role is not taken on another delegator's word."""
    for delegator in ("A", "B"):
        world.delegate("targets", delegator, [f"{delegator}/*"])
        world.delegate(delegator, "C", [f"{delegator}/*"])
    # C's list is signed with the key that A names; B names another.
    del world.signers["C"][1]
    world.add_file("A/file", b"by A", "C")
    world.add_file("B/file", b"by B", "C")
    world.publish("C", "A", "B", "targets", "snapshot", "timestamp")
    assert world.init() and world.download("A/file")
    assert not world.download("A/file", "B/file")
    assert world.downloads() == [b"by A"]


@case()
def test_delegated_targets_expired(world):
    world.delegate("targets", "A")
    world.add_file("file", b"content", "A")
    world.publish("A", "targets", "snapshot", "timestamp")
    assert world.init() and world.download("file")
    world.roles["A"].signed.expires = world.end - timedelta(days=40)
    world.publish("A", "snapshot", "timestamp")
    assert not world.download("file")


def delegate_for(world, days):
    """A role with two files, whose list ends in so many days."""
    world.delegate("targets", "A", ["A/*"])
    world.roles["A"].signed.expires = in_days(days)
    for name in ("A/first", "A/second"):
        world.add_file(name, name.encode(), "A")
    world.publish("A", "targets", "snapshot", "timestamp")
    assert world.init() and world.download("A/first")


@case()
def test_expired_local_delegated_targets(world):
    """What is kept of a role ends like everything else."""
    delegate_for(world, 7)
    assert not world.download("A/second", days=18)
    assert world.downloads() == [b"A/first"]


@case()
def test_expired_local_delegated_targets_updates(world):
    delegate_for(world, 7)
    world.roles["A"].signed.expires = in_days(21)
    world.publish("A", "snapshot", "timestamp")
    assert world.download("A/second", days=18)
    assert world.downloads() == [b"A/first", b"A/second"]
