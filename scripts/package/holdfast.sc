[holdfast_friends]
title="Holdfast: friends"
desc="Backups of friends' computers"
port_forward="yes"
dst.ports="4242/tcp"

[holdfast_console]
title="Holdfast: console"
desc="The web console"
port_forward="no"
dst.ports="4243/tcp"
